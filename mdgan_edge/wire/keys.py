"""Knows the CURVE key pairs: how they are made, kept from others' eyes, and checked."""

from __future__ import annotations

import os
import re
import struct
from dataclasses import dataclass, field
from pathlib import Path

import zmq
import zmq.utils.z85

from mdgan_edge.errors import ConfigurationError

KEY_PATTERN = re.compile(r"[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")  # z85 of 32 bytes
GROUP_AND_OTHERS = 0o077
SECRET_SUFFIX = ".secret"


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A CURVE key pair, z85 text of 40 characters each. The secret is never shown."""

    public: str
    secret: str = field(repr=False)


def generate() -> KeyPair:
    """A fresh key pair, kept nowhere."""
    public, secret = zmq.curve_keypair()
    return KeyPair(public.decode("ascii"), secret.decode("ascii"))


def create(directory: Path, name: str) -> KeyPair:
    """Make `directory`/`name`.secret, readable by nobody else; never over an existing key."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    _check_private(directory, mend="chmod 700")
    keys = generate()
    path = secret_path(directory, name)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise ConfigurationError(f"{path} exists and is not overwritten; move it away for a new key") from None
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(keys.secret + "\n")
        file.flush()
        os.fsync(file.fileno())
    return keys


def load(directory: Path, name: str, make_with: str) -> KeyPair:
    """Read the key pair; `make_with` is the command that makes it, for the error that says so."""
    path = secret_path(directory, name)
    try:
        _check_private(path, mend="chmod 600")
        _check_private(directory, mend="chmod 700")
        secret = check_key(path.read_text(encoding="ascii").strip(), what=str(path))
    except FileNotFoundError:
        raise ConfigurationError(f"no key at {path}; make it with `{make_with}`") from None
    except (OSError, UnicodeDecodeError) as wrong:
        raise ConfigurationError(f"cannot read the key {path}: {wrong}") from None
    return KeyPair(public_of(secret), secret)


def public_of(secret: str) -> str:
    """The public key that belongs to a secret one."""
    return zmq.curve_public(secret.encode("ascii")).decode("ascii")


def secret_path(directory: Path, name: str) -> Path:
    """Where a secret key is kept."""
    return directory / f"{name}{SECRET_SUFFIX}"


def check_public_key(text: str) -> str:
    """The text, if it is a public key; else a ConfigurationError."""
    return check_key(text, what="the public key")


def check_key(text: str, what: str) -> str:
    """The text, if it is 32 bytes in z85; the error never shows it, since it may be a secret."""
    if not KEY_PATTERN.fullmatch(text) or not _decodes(text):
        raise ConfigurationError(f"{what} is not a key: 40 characters of z85 are wanted")
    return text


def _decodes(text: str) -> bool:
    try:
        return len(zmq.utils.z85.decode(text.encode("ascii"))) == 32
    except (ValueError, struct.error):
        return False


def _check_private(path: Path, mend: str) -> None:
    if path.stat().st_mode & GROUP_AND_OTHERS:
        raise ConfigurationError(f"{path} can be read by others: `{mend} {path}`")
