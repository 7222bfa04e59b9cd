"""The command ``bnpp``: its subcommands, each with the function that runs it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import bnpp
from bnpp.experiments import demo


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        Its words, those of the process if none are given.

    Returns
    -------
    int
        The exit status: 0, 1 for an error, 130 after an interruption.
    """
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except KeyboardInterrupt as stop:
        print(f"bnpp {options.command}: {stop or 'interrupted'}", file=sys.stderr)
        return 130
    except (ImportError, ValueError, RuntimeError) as error:
        print(f"bnpp {options.command}: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bnpp", description="Batch normalization for NumPy.")
    parser.add_argument("--version", action="version", version=f"bnpp {bnpp.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    demo.add_arguments(commands.add_parser("demo", help="the experiments of the paper"))
    return parser
