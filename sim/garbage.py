"""How often Python looks for garbage in cycles while a world plays."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

COLLECT_EVERY = 50_000  # objects made between two looks for garbage in cycles


@contextmanager
def seldom_collected() -> Iterator[None]:
    """A world makes many objects and few cycles: looking for these as often as usual would take a tenth of its time."""
    usual = gc.get_threshold()
    gc.set_threshold(COLLECT_EVERY, *usual[1:])
    try:
        yield
    finally:
        gc.set_threshold(*usual)
