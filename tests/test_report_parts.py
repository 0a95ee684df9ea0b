"""The parts of a report, without a run: series, spans, colours, marks beside nodes, and the space-time diagram."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from PIL import Image

from sim.report.canvas import style
from sim.report.nodes import MARKS_MAX, choose_nodes, draw_nodes
from sim.report.palette import FAULT_COLOURS, FAULT_KINDS, HUB_KINDS, fault_paints
from sim.report.recorded import Carried, FaultRow, Happened, NodeRow, ScenarioFile, Window
from sim.report.samples import draw_samples
from sim.report.series import CURVE_COLUMNS, SHOWN_COLUMNS_MAX, Curve, Histograms
from sim.report.spacetime import MESSAGES_MAX, ROWS_MAX, lay_out
from sim.report.spans import MERGE_COLUMNS, Epoch, Span, epochs_of, merged, spans_of

# --- series and spans -------------------------------------------------------------------------------------------------


def test_a_long_curve_keeps_its_ends_and_its_extremes() -> None:
    curve = Curve(100.0)
    values = [(index / 1000, float(index % 7)) for index in range(100_000)]
    values[54_321] = (54.321, 99.0)
    values[12_345] = (12.345, -99.0)
    for at_s, value in values:
        curve.add(at_s, value)
    points = curve.points()
    assert len(points) <= 4 * CURVE_COLUMNS
    assert list(points) == sorted(points, key=lambda point: point[0])
    assert {values[0], values[-1], values[54_321], values[12_345]} <= set(points)


def test_windows_are_bounded_equally_wide_and_lose_nothing() -> None:
    histograms = Histograms(77.0)
    for index in range(10_000):
        histograms.add(index * 0.0077, (index % 5, 1))
    windows = histograms.windows()
    assert len(windows) <= SHOWN_COLUMNS_MAX
    assert {round(window.end_s - window.start_s, 9) for window in windows} == {round(77.0 / len(windows), 9)}
    assert sum(window.total for window in windows) == 20_000
    assert [windows[0].quantile(share) for share in (0.5, 0.95, 1)] == [1, 4, 4]


def test_faults_of_a_kind_that_touch_are_drawn_as_one_and_their_number_is_bounded() -> None:
    spans = [Span("crash", at / 100, at / 100 + 0.01, (f"n{at % 3}",)) for at in range(10_000)]
    assert merged(spans, 100.0) == (Span("crash", 0.0, 100.0, ("n0", "n1", "n2"), 10_000),)
    scattered = [Span("pause", at / 100, at / 100, ("n1",)) for at in range(10_000)]
    assert len(merged(scattered, 100.0)) <= MERGE_COLUMNS
    assert len(merged([Span("reset", 1.0, 1.0, ("n1",)), Span("reset", 9.0, 9.0, ("n2",))], 100.0)) == 2


def test_a_hub_that_crashes_while_it_is_down_starts_no_epoch_more() -> None:
    crashes = tuple(
        FaultRow("hub_crash", at, ("hub",), lasts) for at, lasts in (("1s", "4s"), ("2s", "9s"), ("8s", "1min"))
    )
    scenario = ScenarioFile("x", fault=crashes)
    assert epochs_of(scenario, 20.0) == (Epoch(1, 0.0, 1.0), Epoch(2, 5.0, 8.0))
    assert [span.end_s for span in spans_of(scenario, 20.0)] == [5.0, 11.0, 20.0]


def test_no_two_kinds_of_fault_look_alike_however_many_there_are() -> None:
    for count in range(1, len(FAULT_KINDS) + 1):
        paints = fault_paints(dict.fromkeys(FAULT_KINDS[-count:], 1))
        assert len(set(paints.values())) == count
        assert {paint.texture for paint in list(paints.values())[: len(FAULT_COLOURS)]} == {"plain"}


def test_the_hubs_faults_and_then_the_most_frequent_have_the_first_colours() -> None:
    counts = {"reset": 2, "crash": 1, "hub_slow": 1, "clock": 30, "hub_crash": 1, "partition": 2, "what?": 2}
    order = ["hub_crash", "hub_slow", "clock", "partition", "reset", "what?", "crash"]
    assert list(fault_paints(counts)) == order
    assert [paint.colour for paint in fault_paints(counts).values()] == list(FAULT_COLOURS)


# --- nodes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 3, MARKS_MAX, MARKS_MAX + 1, len(FAULT_KINDS) - HUB_KINDS])
def test_a_square_for_each_fault_of_a_node_lies_beside_its_name_and_not_on_it(count: int) -> None:
    kinds = FAULT_KINDS[HUB_KINDS:][:count]
    rows = {"x" * 30: NodeRow("active", 5, 0.5, 1.0, 2), "n2": NodeRow("active", 5, 0.5, 1.0, 2)}
    with style():
        drawn = draw_nodes(choose_nodes(rows), 0.5, {"n2": kinds}, fault_paints(dict.fromkeys(kinds, 1))).svg
    (name_ends_at,) = {float(x) for x in re.findall(r'text-anchor: end[^>]* x="([\d.]+)"[^>]*>(?:n2|x+…)<', drawn)}
    marks = re.findall(r'<g id="nodes-PathCollection_\d+">(.*?)</g>', drawn, re.DOTALL)
    lefts = [float(x) - 4 for mark in marks for x in re.findall(r'<use [^>]* x="([\d.]+)"', mark)]  # plain ones
    lefts += [float(x) for mark in marks for x in re.findall(r'<path d="M ([\d.]+)', mark)]
    counted = re.findall(r'text-anchor: middle[^>]* x="([\d.]+)"[^>]*>\+(\d+)<', drawn)
    assert len(lefts) == len(marks) == (count if count <= MARKS_MAX else MARKS_MAX - 1)
    assert len(marks) + sum(int(more) for _, more in counted) == count
    assert min(lefts + [float(x) - 9 for x, _ in counted]) > name_ends_at


# --- the space-time diagram -------------------------------------------------------------------------------------------


def film(*messages: Carried, events: list[Happened] | None = None, invariant: str | None = "applied_once") -> Window:
    return Window(0.0, 2.5, 2.0, invariant, events or [], list(messages))


def test_a_lost_message_ends_in_a_cross_with_the_reason_between_two_processes() -> None:
    there = Carried(1.9, "hub", "n1", "TASK 1 v0", "arrived", 1.95)
    lost = Carried(1.96, "n1", "hub", "FEEDBACK 1 v0 1.0", "partition", None)
    diagram = lay_out(film(there, lost), ["n1"], [Span("partition", 1.5, 9.0, ("n1",))])
    task, feedback = diagram.arrows
    assert (task.cross, task.reason, task.y1, task.y2) == (False, "", diagram.rows[0].y, diagram.rows[1].y)
    assert (feedback.cross, feedback.reason) == (True, "partition")
    assert diagram.rows[0].y < feedback.y2 < diagram.rows[1].y
    assert feedback.title == "FEEDBACK 1 v0 1.0, n1 to hub, sent at 1.960000 s, lost: partition"
    assert [(shade.kind, shade.y) for shade in diagram.shades] == [("partition", diagram.rows[1].y)]


def test_of_a_crowded_film_the_hub_the_culprit_and_the_busiest_are_shown() -> None:
    crowd = [Carried(i / 10_000, "hub", f"n{i % 300}", "PING 1", "arrived", i / 10_000 + 0.01) for i in range(20_000)]
    rare = Carried(1.999, "n777", "hub", "FEEDBACK 1 v0 1.0", "arrived", 2.0)
    events = [Happened(index / 10_000, f"n{index % 300}", "tick") for index in range(10_000)]
    diagram = lay_out(film(*crowd[:-1], rare, events=events), ["n777"], [])
    assert [row.name for row in diagram.rows[:2]] == ["hub", "n777"]
    assert [row.culprit for row in diagram.rows[:2]] == [False, True]
    assert len(diagram.rows) == ROWS_MAX
    assert 0 < len(diagram.arrows) <= MESSAGES_MAX
    assert diagram.from_s < 2.0 < diagram.to_s


def test_half_of_the_rows_are_for_those_that_lose_messages_or_are_struck() -> None:
    busy = [Carried(1.9 + i / 1000, "hub", f"n{i % 20}", "TASK 1 v0", "arrived", 1.95 + i / 1000) for i in range(60)]
    lost = [Carried(1.93 + i / 1000, f"cut{i}", "hub", "PING 1", "partition", None) for i in range(3)]
    struck = [Span("crash", 1.0, 3.0, ("gone1", "gone2", "gone3")), Span("pause", 0.1, 0.2, ("well",))]
    diagram = lay_out(film(*busy, *lost), [], struck)
    names = [row.name for row in diagram.rows]
    assert names[:6] == ["hub", "cut0", "cut1", "cut2", "gone1", "gone2"]
    assert len(names) == ROWS_MAX
    assert set(names[6:]) <= {f"n{index}" for index in range(20)}
    assert sum(arrow.cross for arrow in diagram.arrows) == len(lost)


def test_without_trouble_all_rows_are_for_the_busiest() -> None:
    busy = [Carried(1.9 + i / 1000, "hub", f"n{i % 20}", "TASK 1 v0", "arrived", 1.95 + i / 1000) for i in range(60)]
    assert len(lay_out(film(*busy), [], []).rows) == ROWS_MAX


def test_of_a_burst_the_messages_nearest_to_the_moment_are_shown_and_the_rest_is_counted() -> None:
    burst = [Carried(2 + i * 1e-7, "hub", "n1", f"PING {i}", "arrived", 2.1) for i in range(-500, 500)]
    diagram = lay_out(film(*burst), ["n1"], [])
    half = MESSAGES_MAX // 2
    assert {int(arrow.title.split(",")[0].split()[1]) for arrow in diagram.arrows} == set(range(-half, half))
    assert diagram.messages_left_out == 1000 - MESSAGES_MAX


@pytest.mark.parametrize(("channels", "mode"), [((), "L"), ((3,), "RGB")])
def test_samples_side_by_side_keep_their_colours_and_cost_no_more_bytes_than_they_have(
    channels: tuple[int, ...], mode: str
) -> None:
    strip = io.BytesIO()
    Image.fromarray(np.full((28, 280, *channels), 200, np.uint8)).save(strip, "png")
    drawn = draw_samples([("MD-GAN", strip.getvalue())])
    assert drawn is not None
    assert Image.open(io.BytesIO(drawn)).mode == mode
