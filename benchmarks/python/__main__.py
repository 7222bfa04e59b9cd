"""The command line: run, show, compare, plot."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.python import shapes
from benchmarks.python.peers import PEERS
from benchmarks.python.threads import limit_threads, usable_cores

# NumPy and the peers are imported only after the number of threads has been set.


def main() -> None:
    args = _parser().parse_args()
    args.command(args)


def _run(args: argparse.Namespace) -> None:
    limit_threads(args.threads)
    from benchmarks.python import family, results, run, tables  # noqa: PLC0415

    quick = args.quick
    settings = run.Settings(
        threads=args.threads,
        dtype=args.dtype,
        batch=args.batch or (2 if quick else 32),
        rounds=args.rounds or (3 if quick else 21),
        min_time=args.min_time or (1e-4 if quick else 5e-3),
        peers=tuple(peer for peer in args.peers if peer != "bnpp"),
        layouts=tuple(args.layouts),
        values=args.values,
    )
    if args.family is not None:
        machine, records = run.run_family(family.choose(args.family), settings)
    else:
        layers = shapes.choose(args.network, args.layers)
        if not layers:
            raise SystemExit(f"no layer is called {' '.join(args.layers)}")
        machine, records = run.run(layers, settings)
    print(tables.table(records, args.format))
    if args.json:
        results.save(args.json, machine, records)


def _memory(args: argparse.Namespace) -> None:
    limit_threads(args.threads)
    from benchmarks.python import memory  # noqa: PLC0415

    print(memory.table(tuple(map(int, args.shape.split(","))), args.format))


def _show(args: argparse.Namespace) -> None:
    from benchmarks.python import results, tables  # noqa: PLC0415

    machine, records = results.load(args.file)
    for key, value in machine.items():
        print(f"{key}: {value}")
    if args.totals:
        records = [r for r in records if r.layer == results.TOTAL]
    records = [r for r in records if not args.peers or r.peer in args.peers]
    print(f"\n{tables.table(records, args.format)}")
    if args.json:
        results.save(args.json, machine, records)


def _compare(args: argparse.Namespace) -> None:
    from benchmarks.python import compare, results  # noqa: PLC0415

    (machine_a, a), (machine_b, b) = results.load(args.a), results.load(args.b)
    for difference in compare.differences(machine_a, machine_b):
        print(f"differs: {difference}")
    print(compare.compare(a, b, args.format))


def _plot(args: argparse.Namespace) -> None:
    from benchmarks.python import plot, results  # noqa: PLC0415

    records = []
    for file in args.files:
        machine, more = results.load(file)
        records += [r for r in more if not args.peers or r.peer in args.peers]
    about = f"{machine['cpu']}, threads: {machine['threads']}, batch: {machine['batch']}"
    plot.plot(records, args.output, about)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.python",
        description="Times of batch normalization, as multiples of copying the tensor.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    commands = parser.add_subparsers(required=True)

    def command(name: str, function: object, help_: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help_, formatter_class=parser.formatter_class)
        sub.set_defaults(command=function)
        if name in ("show", "plot"):
            sub.add_argument("--peers", nargs="+", help="only these, as the table names them")
        if name != "plot":
            sub.add_argument("--format", default="simple", help="of the table: see tabulate")
        return sub

    run = command("run", _run, "measure")
    run.add_argument(
        "--network", nargs="+", choices=shapes.networks(), default=[], help="all if none"
    )
    run.add_argument(
        "--layers", nargs="+", default=[], help="names (with *), shapes as 32,64,56,56"
    )
    run.add_argument(
        "--family", nargs="*", metavar="CASE", help="the other norms, masks and fused maps instead"
    )
    run.add_argument("--peers", nargs="*", choices=list(PEERS), default=list(PEERS))
    run.add_argument("--layouts", nargs="+", choices=shapes.LAYOUTS, default=shapes.LAYOUTS)
    run.add_argument("--threads", type=int, default=usable_cores())
    dtypes = ["float32", "float64", "float16", "bfloat16"]
    run.add_argument("--dtype", choices=dtypes, default="float32")
    run.add_argument(
        "--values",
        choices=["noise", "smooth"],
        default="noise",
        help="of x: independent, or alike where they are neighbours, as in feature maps",
    )
    run.add_argument("--batch", type=int, help="of the networks: 32, or 2 with --quick")
    run.add_argument("--rounds", type=int, help="samples of each call: 21, or 3 with --quick")
    run.add_argument(
        "--min-time", type=float, help="seconds a sample: 0.005, or 0.0001 with --quick"
    )
    run.add_argument("--quick", action="store_true", help="does it work? The times mean nothing")
    run.add_argument("--json", type=Path, metavar="FILE")

    memory = command("memory", _memory, "the peak of a training step's memory (Linux)")
    memory.add_argument("--shape", default="32,256,56,56")
    memory.add_argument("--threads", type=int, default=usable_cores())

    show = command("show", _show, "print a result again")
    show.add_argument("file", type=Path)
    show.add_argument("--totals", action="store_true", help="whole networks only")
    show.add_argument(
        "--json", type=Path, metavar="FILE", help="write it again, without host names"
    )

    compare = command("compare", _compare, "set two results side by side")
    compare.add_argument("a", type=Path)
    compare.add_argument("b", type=Path)

    plot = command("plot", _plot, "draw bars against the floor")
    plot.add_argument("files", type=Path, nargs="+", help="results on the same machine")
    plot.add_argument("-o", "--output", type=Path, required=True)
    return parser


if __name__ == "__main__":
    main()
