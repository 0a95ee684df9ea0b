"""Fixtures that several test files use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.network import Network
from tests.shells import Shells

settings.register_profile("any machine", deadline=None)  # how long an example takes says more of the machine than of us
settings.load_profile("any machine")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One worker runs every test with real swarms: two swarms at once would only wait for each other."""
    for item in items:
        if "shells" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("swarms"))


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What is kept between runs is kept between tests, and not in anybody's home."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MDGAN_CACHE", str(folder))
        yield folder


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
