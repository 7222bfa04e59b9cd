"""The command ``bnpp``: one subcommand for each thing it does."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from bnpp.experiments import demo


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="bnpp")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    demo.add_arguments(commands.add_parser("demo", help="the experiments of the paper"))
    args = parser.parse_args(arguments)
    return int(args.run(args))
