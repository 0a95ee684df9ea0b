"""The colours of the report, each with a hue for light and one for dark: Okabe and Ito's, for colour-blind eyes too.

A chart is drawn in the light hues; in the page each becomes the CSS variable of its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Texture = Literal["plain", "striped", "dotted"]


@dataclass(frozen=True, slots=True)
class Colour:
    """One hue in both themes."""

    name: str
    light: str
    dark: str


@dataclass(frozen=True, slots=True)
class Paint:
    """A hue and how it fills an area."""

    colour: Colour
    texture: Texture = "plain"


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

# Of hues that are alike (vermillion and orange, sky and blue), the second comes last.
FAULT_COLOURS = (SKY, VERMILLION, PURPLE, GREEN, YELLOW, BLUE, ORANGE)
TEXTURES: tuple[Texture, ...] = ("plain", "striped", "dotted")  # with more kinds than hues, a second cue
FAULT_KINDS = (  # those of the hub come first
    "hub_crash",
    "hub_isolated",
    "hub_pause",
    "hub_slow",
    "partition",
    "crash",
    "straggler",
    "pause",
    "join",
    "leave",
    "link",
    "byzantine",
    "clog",
    "slow_disk",
    "clock",
    "reset",
)
HUB_KINDS = 4  # how many of these are the hub's


def fault_paints(counts: Mapping[str, int]) -> dict[str, Paint]:
    """A paint of its own for every kind there is, in order: the hub's kinds, then the rest, the most frequent first."""
    kinds = sorted(counts, key=lambda kind: _rank(kind, counts[kind]))
    paints = [Paint(colour, texture) for texture in TEXTURES for colour in FAULT_COLOURS]
    return {kind: paints[place % len(paints)] for place, kind in enumerate(kinds)}


def _rank(kind: str, count: int) -> tuple[bool, int, int, str]:
    place = FAULT_KINDS.index(kind) if kind in FAULT_KINDS else len(FAULT_KINDS)
    return place >= HUB_KINDS, -count if place >= HUB_KINDS else 0, place, kind
