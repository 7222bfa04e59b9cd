"""The command ``bnpp``: its subcommands, each with the function that runs it.

What needs an extra is imported only when it runs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

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
        what = str(stop) or "interrupted, no file was left half-written"
        print(f"bnpp {options.command}: {what}", file=sys.stderr)
        return 130
    except (ImportError, ValueError, RuntimeError) as error:
        print(f"bnpp {options.command}: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        print(f"bnpp {options.command}: {what}", file=sys.stderr)
        return 1
    except MemoryError:
        print(f"bnpp {options.command}: there is not enough memory", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bnpp", description="Batch normalization for NumPy.")
    parser.add_argument("--version", action="version", version=f"bnpp {bnpp.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    _add_fold(commands)
    demo.add_arguments(commands.add_parser("demo", help="the experiments of the paper"))
    return parser


def _add_fold(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "fold",
        help="fold the batch norms of an ONNX model into the layers beside them",
        description="Fold the batch norms of an ONNX model into the layers beside them, compare the "
        "outputs of both models with a predicted bound, and print what became of each batch norm.",
    )
    parser.add_argument("model", type=Path, help="the ONNX model")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the folded model")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the report as JSON")
    parser.add_argument(
        "--no-verify", action="store_true", help="do not run the models and compare their outputs"
    )
    parser.add_argument(
        "--padded",
        choices=["refuse", "correct"],
        default="refuse",
        help="a batch norm ahead of a zero-padded convolution stays, or is folded and the border "
        "corrected by a constant of the size of the output (default: refuse)",
    )
    parser.add_argument(
        "--leftover",
        choices=["keep", "mul_add"],
        default="keep",
        help="a batch norm that cannot be folded stays, or becomes Mul and Add (default: keep)",
    )
    parser.add_argument(
        "--shape",
        action="append",
        default=[],
        type=_shape,
        metavar="NAME=1,3,224,224",
        help="the shape of an input to verify with; may be repeated",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the inputs to verify with")
    parser.set_defaults(run=_fold)


def _fold(options: argparse.Namespace) -> None:
    from bnpp.onnx import VerificationError, fold_file  # noqa: PLC0415 - needs the extra
    from bnpp.onnx._report import need_rich  # noqa: PLC0415

    need_rich()  # before the work rather than after it
    try:
        report = fold_file(
            options.model,
            options.output,
            report=options.report,
            verify=not options.no_verify,
            padded=options.padded,
            leftover=options.leftover,
            shapes=dict(options.shape),
            seed=options.seed,
        )
    except VerificationError as error:
        raise RuntimeError(f"{error}; nothing was written") from error
    from rich.console import Console  # noqa: PLC0415 - needs the extra

    console = Console(markup=False, highlight=False)
    console.print(report.table())
    for line in report.summary():
        console.print(line, soft_wrap=True)


def _shape(text: str) -> tuple[str, tuple[int, ...]]:
    """Read NAME=1,3,224,224."""
    name, _, lengths = text.rpartition("=")
    try:
        shape = tuple(int(length) for length in lengths.split(",") if length)
    except ValueError:
        shape = ()
    if not name or any(length < 0 for length in shape) or (lengths and not shape):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=1,3,224,224")
    return name, shape
