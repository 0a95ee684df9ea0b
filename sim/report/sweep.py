"""Writes the page of a sweep, report.html, and its pictures beside it, from experiment.json and results.jsonl."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mdgan_edge.errors import DataError
from mdgan_edge.rundir import write_atomic
from sim.cost import SAID, WAYS, periods_said
from sim.experiments.kept import Description, read_description
from sim.experiments.playing import Row
from sim.experiments.results import Results, identity
from sim.experiments.summary import groups, said_of, with_labels, words
from sim.experiments.values import LOWER_IS_BETTER
from sim.report.page import REPORT_FILE, environment, jinja2_or_refuse
from sim.report.palette import COLOURS

TEMPLATE = "sweep.html.j2"
SAMPLES_FILE = "samples.png"
DOTS_PER_INCH = 110
FAILED_SHOWN_MAX = 20


@dataclass(frozen=True, slots=True)
class SweepReadings:
    """What a sweep has left: its description, the rows that hold, and the cells that failed and have no row.

    `others`: how many rows are of cells that are not asked for any more, or of other conditions.
    """

    experiment: Description
    rows: Sequence[Row]
    failed: Sequence[Row]
    others: int

    @property
    def said(self) -> str:
        """How many runs there are, for people."""
        return f"{len(self.rows)} of {len(self.experiment.cells)} runs" + (f"; {self.left_out}" if self.others else "")

    @property
    def left_out(self) -> str:
        """Why rows are not shown."""
        return f"{self.others} {'row is' if self.others == 1 else 'rows are'} of other conditions"


def write_sweep(folder: Path) -> tuple[Path, SweepReadings]:
    """The page, and what it is of. Raises ConfigurationError without matplotlib or jinja2.

    DataError if the folder is not a sweep's, or has not one row to show; then nothing is written.
    """
    jinja2 = jinja2_or_refuse()
    read = read_sweep(folder)
    if not read.rows:
        raise DataError(f"{folder} has nothing to show: {read.said}")
    from sim.report.canvas import style
    from sim.report.curves import Facts, add_key, draw_chart
    from sim.report.samples import draw_samples

    facts = Facts(read.experiment.axes, read.rows)
    figures = []
    with style():
        for number, chart in enumerate(read.experiment.charts, start=1):
            drawn, strokes = draw_chart(chart, facts)
            figures.append((chart, drawn.finish(f"c{number}", chart.title or chart.score, strokes)))
            add_key(drawn, strokes)  # in the page it stands beneath
            write_atomic(folder / f"chart-{number}.png", _png(drawn.figure))
        samples = draw_samples(sample_rows(read))
    if samples is not None:
        write_atomic(folder / SAMPLES_FILE, samples)
    text = environment(jinja2).get_template(TEMPLATE).render(_shown(read, figures, samples))
    path = folder / REPORT_FILE
    write_atomic(path, str(text).encode())
    return path, read


def read_sweep(folder: Path) -> SweepReadings:
    """Rows count if their key is that of a cell; of several on one cell the last. Raises DataError."""
    experiment = read_description(folder)
    keys = {identity(one.cell, one.seed): one.key for one in experiment.cells}
    rows, failed, others = {}, {}, 0
    for row in Results(folder).rows():
        name = identity(row["cell"], row["seed"])
        if row.get("failed") is not None:
            failed[name] = row
        elif keys.get(name) == row["key"]:
            rows[name] = row
        else:
            others += 1
    left = [row for name, row in failed.items() if name in keys and name not in rows]
    return SweepReadings(experiment, [rows[name] for name in keys if name in rows], left, others)


def sample_rows(read: SweepReadings) -> list[tuple[str, bytes]]:
    """(what it is, PNG) of the first seed of each combination of values."""
    found = []
    for group in _groups(read):
        several = [row for row in with_labels(read.rows, group["cell"]) if row.get("samples")]
        if several:
            first = min(several, key=lambda row: row["seed"])
            title = f"{', '.join(first['cell'].values())} (seed {first['seed']})"
            found.append((title, bytes.fromhex(first["samples"])))
    return found


def _groups(read: SweepReadings) -> list[dict[str, Any]]:
    experiment = read.experiment
    return [] if experiment.priced else groups(experiment.axes, experiment.scores, read.rows)


def _png(figure: Any) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    out = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(
        out, format="png", dpi=DOTS_PER_INCH, facecolor="white", bbox_inches="tight", metadata={"Software": None}
    )
    return out.getvalue()


def _shown(read: SweepReadings, figures: Sequence[Any], samples: bytes | None) -> dict[str, Any]:
    experiment, rows = read.experiment, read.rows
    spent = [row["spent"] for row in rows]
    loads = [one["load"] for one in spent]
    return {
        "colours": COLOURS,
        "experiment": experiment,
        "figures": figures,
        "groups": _groups(read),
        "prices": [(", ".join(row["cell"].values()), row["price"]) for row in rows if "price" in row],
        "roles": SAID,
        "ways": WAYS,
        "words": words,
        "said_of": said_of,
        "periods_said": periods_said,
        "better": {score: "lower" if score in LOWER_IS_BETTER else "higher" for score in experiment.scores},
        "count": len(rows),
        "left_out": read.left_out if read.others else None,
        "missing": len(experiment.cells) - len(rows),
        "failed": read.failed[:FAILED_SHOWN_MAX],
        "failed_left_out": max(0, len(read.failed) - FAILED_SHOWN_MAX),
        "cpu_min": sum(one["cpu_s"] for one in spent) / 60,
        "load": (min(loads), max(loads)) if loads else None,
        "cores": sorted({one["cores"] for one in spent}),
        "samples": base64.b64encode(samples).decode() if samples is not None else None,
    }
