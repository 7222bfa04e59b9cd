"""``bnpp demo``: the experiments of the paper from the command line."""

from __future__ import annotations

import argparse
import math
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from bnpp.experiments import averages, figure1, figures, rates, table
from bnpp.experiments.data import Dataset, digits, download_mnist, mnist
from bnpp.experiments.files import ExperimentError, writable_folder, write_text
from bnpp.experiments.interrupts import stop_on_signal
from bnpp.experiments.optional import optional
from bnpp.experiments.session import Session, machine
from bnpp.experiments.session import table as as_table

DESCRIPTION = """\
Train the network of the batch-normalization paper (Ioffe & Szegedy 2015) with and without batch
normalization on real handwritten digits, turn it into one for inference, and draw the paper's Figure 1.
"""

EPILOG = """\
studies:
  figure1   section 4.1: three layers of 100 sigmoids, Figure 1, Algorithm 2, folding (the default)
  table     section 4.2: steps to the baseline's accuracy and best accuracy of eight variants
  averages  moving averages against population statistics, also after the images have changed
  rates     how the learning rate of the table's baselines was chosen

Ctrl-C stops after the current step; the same command goes on from there, with the same result.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``bnpp demo`` to a parser."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("study", nargs="?", choices=STUDIES, default="figure1", metavar="STUDY")
    parser.add_argument(
        "--data", type=Path, metavar="DIR",
        help="a folder with MNIST's four IDX files, gzipped or not; without it, the digits of "
        "scikit-learn",
    )  # fmt: skip
    parser.add_argument(
        "--download", action="store_true", help="fetch MNIST's files into DIR if they are not there"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("bnpp-demo"), metavar="DIR",
        help="where figures, tables and unfinished trainings go (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--seed", type=_natural, default=0, help="of weights and order, the first of --seeds"
    )
    parser.add_argument(
        "--seeds", type=_positive, default=5, metavar="N",
        help="how many seeds 'table' and 'averages' take (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--steps", type=_positive, help="training steps, instead of the study's own"
    )
    parser.add_argument(
        "--rate", type=_rate, help="learning rate (of the baseline), instead of the study's own"
    )
    parser.add_argument(
        "--network", choices=table.NETWORKS, help="only this one, for 'table' and 'averages'"
    )
    parser.add_argument(
        "--restart", action="store_true", help="forget trainings that were begun or finished before"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Do what the arguments of ``bnpp demo`` say.

    Parameters
    ----------
    args : argparse.Namespace
        As `add_arguments` describes them.

    Raises
    ------
    ExperimentError
        For what the user can mend: a package, a file, a folder.
    KeyboardInterrupt
        If the user stopped it; the message says what was saved.
    """
    # What would be missing at the end is asked for at the beginning.
    for module in ("threadpoolctl", "matplotlib", "tabulate", "tqdm"):
        optional(module)
    if args.data is None:
        optional("sklearn.datasets", "scikit-learn")
    if args.download and args.data is None:
        raise ExperimentError("--download needs a folder to put MNIST's files in: --data DIR")
    folder = writable_folder(args.output)
    if args.download:
        download_mnist(args.data)
    data = digits() if args.data is None else mnist(args.data)
    # One thread: more do not pay for networks of this size, and their number could change the last bits.
    with stop_on_signal() as stop, optional("threadpoolctl").threadpool_limits(1):
        session = Session(folder, stop, args.restart, args.steps, args.rate)
        _report(session, data, args, STUDIES[args.study](session, data, args))


def _natural(text: str, least: int = 0) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(
            f"{text} is given, but an integer from {least} up is needed"
        )
    return int(text)


def _positive(text: str) -> int:
    return _natural(text, least=1)


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is given, but a number above 0 is needed")
    return rate


class Findings(NamedTuple):
    """What a study found: tables as text, files, and the seconds that its trainings took."""

    tables: list[str]
    files: list[Path]
    seconds: float


def _figure1(session: Session, data: Dataset, args: argparse.Namespace) -> Findings:
    trained = figure1.train_both(session, data, args.seed)
    curves = {normalize: figure1.Curve.of(training) for normalize, training in trained.items()}
    inference = figure1.to_inference(trained[True])
    tables = [
        as_table(figure1.CURVE_HEADER, figure1.curve_rows(curves)),
        as_table(figure1.INFERENCE_HEADER, figure1.inference_rows(inference)),
    ]
    path = session.folder / f"figure1-{data.name}.png"
    files = [figures.figure_1(curves, path, f"{data.name}, seed {args.seed}")]
    return Findings(tables, files, sum(curve.seconds for curve in curves.values()))


def _table(session: Session, data: Dataset, args: argparse.Namespace) -> Findings:
    runs = table.train_all(session, data, _seeds(args), _networks(args))
    stem = f"table-{data.name}"
    about = f"{data.name}, {args.seeds} seeds: median and range"
    files = [
        session.save_csv(f"{stem}.csv", table.CSV_HEADER, table.csv_rows(runs)),
        figures.table_figure(runs, session.folder / f"{stem}.png", about),
    ]
    tables = [as_table(table.SUMMARY_HEADER, table.summary_rows(runs))]
    return Findings(tables, files, sum(run.seconds for run in runs))


def _averages(session: Session, data: Dataset, args: argparse.Namespace) -> Findings:
    studies = averages.study_all(session, data, _seeds(args), _networks(args))
    stem = f"averages-{data.name}"
    about = f"{data.name}, {args.seeds} seeds: median and range"
    files = [
        session.save_csv(f"{stem}.csv", averages.CSV_HEADER, averages.csv_rows(studies)),
        figures.averages_figure(studies, session.folder / f"{stem}.png", about),
    ]
    tables = [
        as_table(list(rows[0]), [list(row.values()) for row in rows])
        for rows in (*averages.accuracy_tables(studies), averages.shift_rows(studies))
    ]
    return Findings(tables, files, sum(study.seconds for study in studies))


def _rates(session: Session, data: Dataset, args: argparse.Namespace) -> Findings:
    runs = rates.try_all(session, data, _networks(args))
    return Findings(
        [as_table(rates.HEADER, rates.rows(runs))], [], sum(run.seconds for run in runs)
    )


#: The studies by name.
STUDIES: dict[str, Callable[[Session, Dataset, argparse.Namespace], Findings]] = {
    "figure1": _figure1,
    "table": _table,
    "averages": _averages,
    "rates": _rates,
}


def _seeds(args: argparse.Namespace) -> range:
    return range(args.seed, args.seed + args.seeds)


def _networks(args: argparse.Namespace) -> Sequence[str]:
    return [args.network] if args.network else table.NETWORKS


def _report(session: Session, data: Dataset, args: argparse.Namespace, found: Findings) -> None:
    """Print the tables, and write them to a page that says how they came about."""
    page = session.folder / f"{args.study}-{data.name}.md"
    tables = "\n\n".join(found.tables)
    how = f"`{_command(args)}`: {found.seconds:.0f} s of training on one thread; {machine()}."
    files = [*found.files, page]
    write_text(page, f"# {args.study} on {data.name}\n\n{how}\n\n{tables}\n")
    print(f"{tables}\n\nwritten: {', '.join(map(str, files))}")


#: Options that mean nothing to a study.
_IGNORED = {"figure1": ("seeds", "network"), "rates": ("seed", "seeds", "rate")}


def _command(args: argparse.Namespace) -> str:
    """Return the command that does the same, without where it writes."""
    words = ["bnpp", "demo", args.study]
    for name in ("data", "seed", "seeds", "steps", "rate", "network"):
        value = getattr(args, name)
        if value is not None and name not in _IGNORED.get(args.study, ()):
            words += [f"--{name}", str(value)]
    return shlex.join(words)
