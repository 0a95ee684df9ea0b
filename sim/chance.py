"""Countable chance: the n-th draw of a named stream is the same number whatever was drawn elsewhere.

A stream is a 64-bit key; its draws are SplitMix64 (Steele, Lea, Flood 2014) of key plus counter, far quicker than a
hash of text, and need no state but the counter.
"""

from __future__ import annotations

from mdgan_edge.streams import stream_seed

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB
_UNIT = 2.0**-53


def stream(seed: int, *key: str | int) -> int:
    """The key of a named stream."""
    return stream_seed(seed, *key)


def draw(key: int, n: int) -> float:
    """The n-th number of a stream, uniform in [0, 1)."""
    x = (key + n * _GOLDEN) & _MASK
    x = ((x ^ (x >> 30)) * _MIX_1) & _MASK
    x = ((x ^ (x >> 27)) * _MIX_2) & _MASK
    return ((x ^ (x >> 31)) >> 11) * _UNIT
