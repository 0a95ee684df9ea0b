"""Images of several generators side by side in one picture, each with what it is."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from sim.report.palette import INK

ENOUGH = 60  # strips in one picture
WIDTH = 10.8  # inches
STRIP_HEIGHT = 1.25
TITLE_HEIGHT = 0.28
DOTS_PER_INCH = 100
COLUMNS = 2


def draw_samples(strips: Sequence[tuple[str, bytes]]) -> bytes | None:
    """A PNG of (what it is, PNG of its images), in two columns; None if there are none."""
    if not strips:
        return None
    shown = strips[:ENOUGH]
    columns = min(COLUMNS, len(shown))
    floors = -(-len(shown) // columns)
    figure = Figure(figsize=(WIDTH, floors * (STRIP_HEIGHT + TITLE_HEIGHT)), dpi=DOTS_PER_INCH, facecolor="white")
    FigureCanvasAgg(figure)
    panels = figure.subplots(floors, columns, squeeze=False)
    for panel in panels.flat:
        panel.set_axis_off()
    grey = True
    for panel, (title, png) in zip(panels.flat, shown, strict=False):
        with Image.open(io.BytesIO(png)) as image:
            pixels, grey = np.asarray(image), grey and image.mode == "L"
        panel.imshow(pixels, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        panel.set_title(title, loc="left", fontsize=10, color=INK.light)
    figure.tight_layout(pad=0.4)
    drawn, out = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", facecolor="white", metadata={"Software": None})
    with Image.open(drawn) as image:  # of greys half the bytes
        image.convert("L" if grey else "RGB").save(out, format="png", optimize=True)
    return out.getvalue()
