"""The table's numbers from runs that are known, and the page in docs against its own CSV files."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest
from bnpp.experiments import rates, table
from bnpp.experiments.figures import table_figure
from bnpp.experiments.settings import Schedule

DOCS = Path(__file__).parents[1] / "docs" / "paper_experiments"


def a_run(variant, seed, accuracy, diverged=False):
    steps = 10 * np.arange(1, len(accuracy) + 1)
    return table.Run("mlp", variant, 0.1, seed, steps, np.array(accuracy), diverged, 1.0)


RUNS = [
    a_run("baseline", 0, [0.5, 0.8, 0.7]),
    a_run("baseline", 1, [0.5, 0.6, 0.9]),  # the mean of the best is 0.85
    a_run("BN", 0, [0.85, 0.9, 0.95]),
    a_run("BN", 1, [0.8, 0.86, 0.85]),
    a_run("baseline-x30", 0, [], diverged=True),
    a_run("baseline-x30", 1, [0.3], diverged=True),
]


def test_the_target_is_the_mean_of_the_baselines_best():
    assert table.targets(RUNS) == {"mlp": pytest.approx(0.85)}


def test_summary():
    rows = {row[1]: row[2:] for row in table.summary_rows(RUNS)}
    best = "85.00 (80.00 to 90.00)"
    assert rows["baseline"] == ("0.1", "30 (30 to 30)", "1 of 2", best, "0 of 2")
    best = "90.50 (86.00 to 95.00)"
    assert rows["BN"] == ("0.1", "15 (10 to 20)", "2 of 2", best, "0 of 2")
    best = "15.00 (0.00 to 30.00)"
    assert rows["baseline-x30"] == ("0.1", "never", "0 of 2", best, "2 of 2")


def test_csv():
    rows = [dict(zip(table.CSV_HEADER, row, strict=True)) for row in table.csv_rows(RUNS)]
    assert [row["steps_to_target"] for row in rows] == ["", 30, 10, 20, "", ""]
    assert [row["final_accuracy"] for row in rows] == [
        "0.7000", "0.9000", "0.9500", "0.8500", "", "0.3000",
    ]  # fmt: skip
    assert [row["diverged"] for row in rows] == [0, 0, 0, 0, 1, 1]


def test_rates():
    assert rates.rows(RUNS[:2]) == [("mlp", "0.1", "85.00", "80.00 90.00")]


def test_a_schedule_records_its_last_step():
    assert Schedule(25, 10, 0.1).record_at == (10, 20, 25)
    assert Schedule(20, 10, 0.1).record_at == (10, 20)
    assert Schedule(20, 10, 0.1).changed(5, 0.2) == Schedule(5, 5, 0.2)


def test_a_figure_of_runs_that_ended_early(tmp_path):
    """Also where nothing was recorded."""
    path = table_figure(RUNS, tmp_path / "table.png", "title")
    assert path.stat().st_size > 10_000


def rows_of(name):
    path = DOCS / name
    if not path.is_file():
        pytest.skip("the tests are not in a checkout, so there are no docs")
    with path.open() as file:
        return list(csv.DictReader(file))


def cells(page, *first):
    """The rest of the row of a table in the page that begins with these cells."""
    start = r" *\| *".join(re.escape(cell) for cell in first)
    found = re.findall(rf"^\| *{start} *\|(.*)\|$", page, re.MULTILINE)
    assert found, f"no row {first} in the page"
    return [cell.strip() for cell in found[0].split("|")]


def test_the_page_tells_what_the_table_found():
    rows = rows_of("table-mnist.csv")
    page = (DOCS.parent / "paper_experiments.md").read_text()
    assert len(rows) == 2 * 5 * len(table.VARIANTS)
    for network in table.NETWORKS:
        baselines = [r for r in rows if (r["network"], r["variant"]) == (network, "baseline")]
        target = np.mean([float(r["best_accuracy"]) for r in baselines])
        assert f"{100 * target:.2f} %" in page
        for variant in table.VARIANTS:
            group = [r for r in rows if (r["network"], r["variant"]) == (network, variant.name)]
            steps = [int(r["steps_to_target"]) for r in group if r["steps_to_target"]]
            best = [100 * float(r["best_accuracy"]) for r in group]
            assert cells(page, network, variant.name)[1:4] == [
                table.spread(steps, ".0f"),
                f"{len(steps)} of {len(group)}",
                table.spread(best, ".2f"),
            ]


def test_the_page_tells_what_the_averages_found():
    rows = rows_of("averages-mnist.csv")
    page = (DOCS.parent / "paper_experiments.md").read_text()
    assert {row["seed"] for row in rows} == set("01234")
    for network in table.NETWORKS:
        shifted = [
            row for row in rows if row["network"] == network and row["test_images"] != "none"
        ]
        for shift in dict.fromkeys(row["test_images"] for row in shifted):
            found = [
                table.spread(
                    [
                        100 * float(row["accuracy"])
                        for row in shifted
                        if (row["test_images"], row["statistics"]) == (shift, statistics)
                    ],
                    ".1f",
                )
                for statistics in ("old statistics", "estimated anew", "each batch's own")
            ]
            cell = cells(page, network, shift)
            assert [cell[0], cell[-2], cell[-1]] == found
