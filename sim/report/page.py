"""Writes report.html: one file that opens from disk and shows what became of a virtual run, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from mdgan_edge.errors import ConfigurationError
from mdgan_edge.rundir import write_atomic
from sim.invariants.names import INVARIANTS, OF_FLGAN
from sim.report.palette import COLOURS
from sim.report.reading import Readings, read_run
from sim.report.recorded import LowShare, RunFile
from sim.report.spacetime import Diagram, lay_out
from sim.report.spans import Epoch, struck

if TYPE_CHECKING:
    from sim.report.canvas import Drawing, Weather

REPORT_FILE = "report.html"
TEMPLATE = "page.html.j2"
EPOCHS_NAMED_MAX = 12  # with the versions they went on from
SCENARIO_TEXT_MAX = 60_000  # characters of the scenario file that are shown
REMEDY = "the report needs matplotlib and jinja2: pip install 'mdgan-edge[report]'"

OUTCOMES = {
    "completed": "completed: all steps were made",
    "stopped": "stopped: the scenario's time was over",
    "failed": "failed",
}
VERSIONS = {
    "mdgan": "A version is one step of the generator.",
    "flgan": "FL-GAN: a version is one round, after which the server has averaged.",
    "standalone": "Standalone: a version is one step of the generator, on one machine.",
}
SENTENCES = {**INVARIANTS, **OF_FLGAN}
VERDICTS = {True: "holds", False: "violated", None: "unknown"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """One invariant."""

    name: str
    sentence: str
    word: str


@dataclass(frozen=True, slots=True)
class Drawings:
    """None where there is nothing to draw."""

    faults: Drawing | None
    versions: Drawing
    scores: Drawing | None
    members: Drawing
    staleness: Drawing | None
    nodes: Drawing | None
    ranks: Drawing | None
    nodes_caption: str


def write_report(folder: Path) -> Path:
    """Write report.html into the directory of a virtual run.

    Raises ConfigurationError if matplotlib or jinja2 is not installed, DataError if the directory is not such a run's
    or cannot be written to.
    """
    jinja2 = jinja2_or_refuse()
    text = _render(jinja2, read_run(folder))
    path = folder / REPORT_FILE
    write_atomic(path, text.encode())
    return path


def jinja2_or_refuse() -> ModuleType:
    """The module. Raises ConfigurationError if it or matplotlib is not installed."""
    try:
        import jinja2
        import matplotlib.figure  # noqa: F401  (the charts need it)
    except ModuleNotFoundError as error:
        raise ConfigurationError(REMEDY) from error
    return jinja2


def environment(jinja2: ModuleType) -> Any:
    """Of our templates: what they show is escaped, and what they are not given is an error."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    made.filters["bytes"] = bytes_text
    return made


def _render(jinja2: ModuleType, readings: Readings) -> str:
    return str(environment(jinja2).get_template(TEMPLATE).render(_facts(readings)))


def _facts(readings: Readings) -> dict[str, Any]:
    """What the template shows, under the names it uses."""
    from sim.report.canvas import style
    from sim.report.charts import weather_of

    run, weather = readings.run, weather_of(readings)
    with style():
        drawings = _draw(readings, weather)
    verdicts, diagram = _verdicts(run), _diagram(readings)
    words = [one.word for one in verdicts]
    return {
        "readings": readings,
        "run": run,
        "about": " ".join(readings.scenario.about.split()),
        "colours": COLOURS,
        "fault_paints": weather.paints,
        "outcome": _outcome(run),
        "gone_on": _gone_on(readings.epochs),
        "low_shares": [(one, _low_share(one)) for one in readings.low_shares],
        "verdicts": verdicts,
        "counts": {word: words.count(word) for word in VERDICTS.values()},
        "sentences": SENTENCES,
        "version_is": VERSIONS[run.method],
        "sometimes": sorted(run.sometimes.items(), key=lambda one: (one[1] == 0, one[0])),
        "last_scores": sorted((name, score) for name, score in run.scores.items() if score is not None),
        "drawings": drawings,
        "diagram": diagram,
        "shaded": {one.kind for one in diagram.shades} if diagram else set(),
        "scenario_text": readings.scenario_text[:SCENARIO_TEXT_MAX],
        "scenario_cut": max(0, len(readings.scenario_text) - SCENARIO_TEXT_MAX),
        "lost": _lost(run),
    }


def bytes_text(count: int) -> str:
    """A number of bytes in the unit that suits it."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"


def _draw(readings: Readings, weather: Weather) -> Drawings:
    from sim.report import charts, nodes

    rows = readings.run.nodes
    chosen = nodes.choose_nodes(rows)
    fair = 1 / max(1, len(rows))
    had = struck(readings.spans)
    return Drawings(
        faults=charts.draw_faults(weather) if weather.bands else None,
        versions=charts.draw_versions(readings, weather),
        scores=charts.draw_scores(readings, weather) if readings.scores else None,
        members=charts.draw_members(readings, weather),
        staleness=charts.draw_staleness(readings, weather) if readings.merged else None,
        nodes=nodes.draw_nodes(chosen, fair, had, weather.paints) if rows else None,
        ranks=nodes.draw_ranks(rows, fair) if chosen.left_out else None,
        nodes_caption=nodes.caption(chosen, fair, had),
    )


def _outcome(run: RunFile) -> str:
    if run.interrupted_at_s is not None and run.outcome == "stopped":
        return f"stopped: interrupted at {run.interrupted_at_s:g} s"
    return OUTCOMES.get(run.outcome, run.outcome)


def _gone_on(epochs: Sequence[Epoch]) -> str:
    """Which version each epoch but the first went on from."""
    said = []
    for epoch in epochs[1 : EPOCHS_NAMED_MAX + 1]:
        start = f"from version {epoch.version:,}" if epoch.version else "anew, as there was none yet"
        said.append(f"epoch {epoch.number} {start}")
    more = len(epochs) - 1 - len(said)
    return ", ".join(said) + (f" and {more} more" if more > 0 else "")


def _low_share(one: LowShare) -> str:
    """What the hub said of a node that gives too little."""
    from sim.report.nodes import refusals

    refused = f"; refused until then: {refusals(one.refused)}" if one.refused else ""
    return f"{one.part:.0%} of its fair share at {one.t:g} s{refused}"


def _verdicts(run: RunFile) -> list[Verdict]:
    """Violated ones first, then what could not be seen."""
    judged = run.invariants
    order = sorted(judged, key=lambda name: (judged[name] is not False, judged[name] is not None))
    return [Verdict(name, SENTENCES.get(name, ""), VERDICTS[judged[name]]) for name in order]


def _diagram(readings: Readings) -> Diagram | None:
    window = readings.window
    if window is None:
        return None
    culprits = [one.who for one in readings.run.violations if one.at_s == window.at_s]
    return lay_out(window, culprits, readings.spans)


def _lost(run: RunFile) -> list[tuple[str, int, int]]:
    """Bytes that never arrived: why, how many on the way to the hub, how many on the way to nodes."""
    lost = run.undelivered_bytes
    reasons = sorted({*lost.up, *lost.down})
    return [(reason, lost.up.get(reason, 0), lost.down.get(reason, 0)) for reason in reasons]
