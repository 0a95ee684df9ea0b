"""A small classifier of the real images: its answers and its penultimate features are what the scores measure.

It is trained once, seeded, in a few seconds, and may be kept in a folder of safetensors files, each named by what went
into it: so hubs that share a folder share classifiers, and none is ever out of date.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional

from mdgan_edge.cache import keep
from mdgan_edge.data.images import Images, to_unit
from mdgan_edge.errors import DataError
from mdgan_edge.gan.state import read_file
from mdgan_edge.streams import stream_seed

FEATURES = 64
WIDTH = 16  # channels after the first convolution
STEPS = 400  # the same for any amount of data, so that the time is known
BATCH = 64
LR_MAX = 4e-3
SHIFT = 2  # pixels by which training images are moved at random
CHUNK = 250  # images looked at in one go


class Outlook(NamedTuple):
    """What the classifier says of images."""

    features: Tensor  # float32 (n, FEATURES)
    probabilities: Tensor  # float32 (n, classes)


class Classifier(nn.Module):
    """Images (B, C, H, W), 8..64 pixels a side, to logits (B, classes)."""

    def __init__(self, channels: int, size: int, classes: int) -> None:
        super().__init__()
        stride = 4 if size > 32 else 2
        self.body = nn.Sequential(
            nn.Conv2d(channels, WIDTH, 5, stride=stride, padding=2),  # (B, 16, S, S), S at most 16
            nn.ReLU(),
            nn.Conv2d(WIDTH, 2 * WIDTH, 3, padding=1),
            nn.MaxPool2d(2),  # (B, 32, S/2, S/2)
            nn.ReLU(),
            nn.Conv2d(2 * WIDTH, 2 * WIDTH, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveMaxPool2d(4),  # (B, 32, 4, 4)
            nn.Flatten(),
            nn.Linear(32 * WIDTH, FEATURES),
            nn.ReLU(),
        )
        self.head = nn.Linear(FEATURES, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        logits: Tensor = self.head(self.body(x))
        return logits


def look(classifier: Classifier, x: Tensor) -> Outlook:
    """Features and class probabilities of `x` (n, C, H, W) in [-1, 1], in chunks."""
    features, probabilities = [], []
    with torch.inference_mode():
        for chunk in torch.split(x, CHUNK):
            features.append(classifier.body(chunk))
            probabilities.append(functional.softmax(classifier.head(features[-1]), dim=1))
    return Outlook(torch.cat(features), torch.cat(probabilities))


def obtain(images: Images, classes: int, seed: int, cache: Path | None, steps: int = STEPS) -> Classifier:
    """A trained classifier: from the folder `cache` if that has one of these images and this seed, else trained now."""
    classifier = _fresh(images, classes, seed)
    if cache is None:
        train(classifier, images, seed, steps)
        return classifier.eval()
    key = cache_key(images, classes, seed, steps)
    file = cache / f"classifier-{key}.safetensors"
    if not _restore(classifier, file, key):
        train(classifier, images, seed, steps)
        with suppress(DataError):  # without a cache the next run takes a few seconds longer, that is all
            keep(file, save(classifier.state_dict(), {"key": key}))
    return classifier.eval()


def train(classifier: Classifier, images: Images, seed: int, steps: int = STEPS) -> None:
    """Adam with one rise and fall of the learning rate; each image is moved by up to SHIFT pixels every time."""
    assert images.y is not None
    x, y = images.x, torch.from_numpy(images.y)
    chance = np.random.default_rng(stream_seed(seed, "classifier", "batches"))
    optimiser = torch.optim.Adam(classifier.parameters(), lr=LR_MAX)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LR_MAX, total_steps=steps)
    for _ in range(steps):
        rows = chance.integers(len(x), size=BATCH)
        logits = classifier(_moved(torch.from_numpy(to_unit(x[rows])), chance))  # a batch as numbers, never the whole
        optimiser.zero_grad()
        functional.cross_entropy(logits, y[rows]).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()


def _moved(x: Tensor, chance: np.random.Generator) -> Tensor:
    """The batch (B, C, H, W) shifted as one; the border is repeated."""
    height, width = x.shape[2:]
    down, right = chance.integers(2 * SHIFT + 1, size=2).tolist()
    padded = functional.pad(x, (SHIFT,) * 4, mode="replicate")
    return padded[:, :, down : down + height, right : right + width]


def cache_key(images: Images, classes: int, seed: int, steps: int = STEPS) -> str:
    """Changes with the images, their labels, the seed, torch, and this file: whatever changes the weights."""
    assert images.y is not None
    digest = hashlib.blake2b(digest_size=16)
    digest.update(repr((images.x.shape, classes, seed, steps, str(torch.__version__))).encode())
    digest.update(np.ascontiguousarray(images.x).data)
    digest.update(np.ascontiguousarray(images.y).data)
    digest.update(Path(__file__).read_bytes())
    return digest.hexdigest()


def _fresh(images: Images, classes: int, seed: int) -> Classifier:
    """New weights, without touching torch's own random stream."""
    channels, size, _ = images.shape
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(seed, "classifier", "weights"))
        return Classifier(channels, size, classes)


def _restore(classifier: Classifier, file: Path, key: str) -> bool:
    """Whether the file held this key's weights. Any other file is as good as none: it is only a cache."""
    try:
        facts, tensors = read_file(file)
        if facts.get("key") != key:
            return False
        classifier.load_state_dict(tensors)
    except (OSError, SafetensorError, RuntimeError):
        return False
    return True
