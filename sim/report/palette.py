"""The colours of the report, each with a hue for light and one for dark: Okabe and Ito's, for colour-blind eyes too.

A chart is drawn in the light hues; in the page each becomes the CSS variable of its name.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Colour:
    """One hue in both themes."""

    name: str
    light: str
    dark: str


INK = Colour("ink", "#1a1f24", "#e6e9ec")
MUTED = Colour("muted", "#5a646e", "#9aa5b0")
GRID = Colour("grid", "#e3e7eb", "#2b323a")
AXIS = Colour("axis", "#b4bdc6", "#4a545f")
BLUE = Colour("blue", "#0072b2", "#4fa8dc")
SKY = Colour("sky", "#56b4e9", "#7cc4ee")
GREEN = Colour("green", "#009e73", "#2fc39a")
ORANGE = Colour("orange", "#e69f00", "#f0b53c")
VERMILLION = Colour("vermillion", "#d55e00", "#f07f33")
PURPLE = Colour("purple", "#cc79a7", "#dd99bf")
YELLOW = Colour("yellow", "#e0cf20", "#f0e442")

COLOURS = (INK, MUTED, GRID, AXIS, BLUE, SKY, GREEN, ORANGE, VERMILLION, PURPLE, YELLOW)

# Kinds that often come together lie apart; with more kinds than hues, one that comes later takes a hue again.
FAULT_COLOURS = (VERMILLION, SKY, PURPLE, YELLOW, GREEN, ORANGE, BLUE)
FAULT_KINDS = (
    "hub_crash",
    "partition",
    "straggler",
    "pause",
    "join",
    "crash",
    "link",
    "byzantine",
    "clog",
    "slow_disk",
    "clock",
    "leave",
    "hub_pause",
    "hub_isolated",
    "reset",
    "hub_slow",
)


def fault_colours(kinds: Iterable[str]) -> dict[str, Colour]:
    """A hue for every kind there is, none twice while there are enough; a kind has its own wherever it can."""
    chosen: dict[str, Colour] = {}
    for kind in kinds:
        if kind in chosen:
            continue
        first = FAULT_KINDS.index(kind) if kind in FAULT_KINDS else 0
        turned = [FAULT_COLOURS[(first + step) % len(FAULT_COLOURS)] for step in range(len(FAULT_COLOURS))]
        used = list(chosen.values())
        chosen[kind] = min(turned, key=used.count)
    return chosen
