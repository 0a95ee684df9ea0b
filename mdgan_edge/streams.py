"""Named random streams: one run seed and a key give a number, the same on every machine and in every process.

The streams that decide what is computed (docs/algorithm.md has the others too): ("generator",) and ("discriminator",
node) initialise the networks; ("latent", version, batch) draws z and y; ("real", node, task) draws real samples;
("train", node, task) seeds torch's own stream while a discriminator trains (dropout, gradient penalty).
"""

from __future__ import annotations

import hashlib

SEED_BITS = 63
SEED_MAX = (1 << SEED_BITS) - 1  # what fits everywhere: files, torch, and numbers on the wire


def stream_seed(run_seed: int, *key: str | int) -> int:
    """A seed in [0, 2**63) for the stream that `key` names: blake2b over the repr of each part."""
    text = "\x1f".join(repr(part) for part in (run_seed, *key))
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> (64 - SEED_BITS)
