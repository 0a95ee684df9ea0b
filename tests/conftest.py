"""Fixtures that several test files use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.network import Network
from tests.shells import Shells

settings.register_profile("any machine", deadline=None)  # how long an example takes says more of the machine than of us
settings.load_profile("any machine")


@pytest.fixture(scope="session", autouse=True)
def folder_for_what_is_kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is kept between runs is kept between tests, and not in anybody's home."""
    with pytest.MonkeyPatch.context() as patch:
        if "MDGAN_CACHE" not in os.environ:
            patch.setenv("MDGAN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def network() -> Iterator[Network]:
    network = Network()
    try:
        yield network
    finally:
        for end in network.ends:
            end.close()


@pytest.fixture
def shells(tmp_path: Path) -> Iterator[Shells]:
    shells = Shells(tmp_path)
    try:
        yield shells
    finally:
        shells.close()
