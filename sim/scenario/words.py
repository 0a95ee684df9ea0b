"""What to say of a word that is none of those allowed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def near_miss(word: str, words: Iterable[str], otherwise: str | None = None) -> str:
    """The one of `words` that was perhaps meant; if none is alike, `otherwise`, or all there are."""
    known = list(words)
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean '{near[0]}'?" if near else otherwise or f"there are {', '.join(known)}"
