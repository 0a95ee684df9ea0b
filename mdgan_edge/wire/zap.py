"""Knows who may connect: answers libzmq's questions (ZAP, RFC 27) about the key of each new connection.

Lives as long as the hub's endpoint, in its context and in its thread. It must never die: unanswered, no node joins.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_never

import zmq
import zmq.utils.z85

from mdgan_edge.errors import ConfigurationError
from mdgan_edge.messages import NODE_ID_PATTERN, NodeId

ZAP_ENDPOINT = "inproc://zeromq.zap.01"
ZAP_VERSION = b"1.0"
ZAP_DOMAIN = b"mdgan-edge"
REFUSALS_KEPT = 256  # those the service has not drained yet; the counts go on


@dataclass(frozen=True, slots=True)
class Member:
    """The key belongs to this node."""

    node_id: NodeId


@dataclass(frozen=True, slots=True)
class Unknown:
    """The key is not registered (yet): the node's socket tries again by itself."""


@dataclass(frozen=True, slots=True)
class Revoked:
    """The key was taken back: the node's socket gives up."""


Admission = Member | Unknown | Revoked
Lookup = Callable[[str], Admission]  # of a public key in z85


@dataclass(frozen=True, slots=True)
class Refusal:
    """A connection that was not admitted."""

    status: int
    reason: str
    public_key: str
    address: str


class ZapHandler:
    """Answers from the register; 500 if that fails, which also makes the node's socket give up."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], lookup: Lookup) -> None:
        self.refused: Counter[str] = Counter()
        self._refusals: deque[Refusal] = deque(maxlen=REFUSALS_KEPT)
        self._lookup = lookup
        self.socket = context.socket(zmq.REP)
        self.socket.linger = 0
        try:
            self.socket.bind(ZAP_ENDPOINT)
        except zmq.ZMQError as wrong:
            self.socket.close()
            raise ConfigurationError(
                f"another ZAP handler runs in this context, so keys cannot be checked: {wrong}"
            ) from None

    def serve(self) -> None:
        """Answer every request that waits."""
        while True:
            try:
                request = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self.socket.send_multipart(self._answer(request))

    def drain_refusals(self) -> list[Refusal]:
        """The refusals since the last call, oldest first."""
        drained = list(self._refusals)
        self._refusals.clear()
        return drained

    def _answer(self, request: list[bytes]) -> list[bytes]:
        request_id = request[1] if len(request) > 1 else b""
        address = request[3].decode("utf-8", "replace") if len(request) > 3 else ""
        key, status, text = self._judge(request)
        if status == 200:
            return [ZAP_VERSION, request_id, b"200", b"", text.encode("ascii"), b""]
        self.refused[text] += 1
        self._refusals.append(Refusal(status, text, key, address))
        return [ZAP_VERSION, request_id, str(status).encode("ascii"), text.encode("ascii"), b"", b""]

    def _judge(self, request: list[bytes]) -> tuple[str, int, str]:
        """(public key, status, node id or reason) for [version, id, domain, address, identity, mechanism, key]."""
        if len(request) != 7 or request[0] != ZAP_VERSION:
            return "", 500, "not a ZAP 1.0 request for CURVE"
        if request[2] != ZAP_DOMAIN or request[5] != b"CURVE" or len(request[6]) != 32:
            return "", 400, "wrong mechanism or domain"
        key = zmq.utils.z85.encode(request[6]).decode("ascii")
        try:
            return key, *self._admit(key)
        except Exception:  # noqa: BLE001  (whatever it is, the handler has to live on)
            return key, 500, "the register could not be read"

    def _admit(self, key: str) -> tuple[int, str]:
        """(status, node id or reason)"""
        admission = self._lookup(key)
        match admission:
            case Member(node_id):
                assert re.fullmatch(NODE_ID_PATTERN, node_id)
                return 200, node_id
            case Unknown():
                return 300, "unknown key"
            case Revoked():
                return 400, "revoked key"
            case _:
                assert_never(admission)
