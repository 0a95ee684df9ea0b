"""A secret key is seen by its owner only, and a missing or wrong one is explained."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdgan_edge.errors import ConfigurationError
from mdgan_edge.wire.keys import KeyPair, check_public_key, create, generate, load, public_of, secret_path


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "state" / "keys"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_key_is_read_back_as_it_was_made(directory: Path) -> None:
    keys = create(directory, "hub")
    assert load(directory, "hub", make_with="mdgan-hub init") == keys
    assert public_of(keys.secret) == keys.public


def test_a_secret_is_not_readable_by_others_whatever_the_umask(directory: Path) -> None:
    before = os.umask(0)
    try:
        create(directory, "hub")
    finally:
        os.umask(before)
    assert (mode(directory), mode(secret_path(directory, "hub"))) == (0o700, 0o600)


def test_an_existing_key_is_never_overwritten(directory: Path) -> None:
    keys = create(directory, "hub")
    with pytest.raises(ConfigurationError, match="is not overwritten"):
        create(directory, "hub")
    assert load(directory, "hub", make_with="mdgan-hub init") == keys


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o660])
def test_a_key_that_others_can_read_is_refused(directory: Path, bits: int) -> None:
    create(directory, "hub")
    path = secret_path(directory, "hub")
    path.chmod(bits)
    with pytest.raises(ConfigurationError, match=f"chmod 600 {path}"):
        load(directory, "hub", make_with="mdgan-hub init")


def test_a_directory_that_others_can_enter_is_refused(directory: Path) -> None:
    create(directory, "hub")
    directory.chmod(0o755)
    with pytest.raises(ConfigurationError, match=f"chmod 700 {directory}"):
        load(directory, "hub", make_with="mdgan-hub init")
    with pytest.raises(ConfigurationError, match=f"chmod 700 {directory}"):
        create(directory, "other")


def test_a_missing_key_says_which_command_makes_it(directory: Path) -> None:
    with pytest.raises(ConfigurationError, match="make it with `mdgan-hub init`"):
        load(directory, "hub", make_with="mdgan-hub init")


@pytest.mark.parametrize("text", ["", "x" * 39, "~" * 40, "#" * 40, "\xff"])
def test_a_broken_key_file_is_explained_and_never_shown(directory: Path, text: str) -> None:
    create(directory, "hub")
    secret_path(directory, "hub").write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigurationError) as caught:
        load(directory, "hub", make_with="mdgan-hub init")
    assert str(secret_path(directory, "hub")) in str(caught.value)
    assert not text or text not in str(caught.value)


def test_a_secret_is_not_in_the_repr() -> None:
    keys = generate()
    assert keys.secret not in repr(keys)
    assert keys.public in repr(keys)


def test_a_public_key_is_taken_as_it_is() -> None:
    keys: KeyPair = generate()
    assert check_public_key(keys.public) == keys.public


@given(st.text(max_size=50) | st.text(alphabet="#%$0aZ", min_size=40, max_size=40))
def test_any_text_is_a_public_key_or_a_configuration_error(text: str) -> None:
    with contextlib.suppress(ConfigurationError):
        assert check_public_key(text) == text
