"""Knows what the events of a socket's monitor mean for a node: is the link to the hub up, and if not, why.

Seen with libzmq 4.3.5: ZAP 300 looks like a handshake that times out, 400 and 500 are named and end the socket's own
reconnecting, a wrong server key looks like a hub that hangs up in every handshake.
"""

from __future__ import annotations

import errno

import zmq

from mdgan_edge.actors import LinkTrouble, Nanos, nanos

MISMATCH_FAILURES = 5  # broken handshakes in a row, so that one hub that restarts is not misread ...
MISMATCH_AFTER = nanos(3.0)  # ... between the first and the last of them
REPEAT_AFTER = nanos(1.0)  # the same trouble is not told more often

WATCHED = (
    zmq.Event.HANDSHAKE_SUCCEEDED
    | zmq.Event.HANDSHAKE_FAILED_AUTH
    | zmq.Event.HANDSHAKE_FAILED_PROTOCOL
    | zmq.Event.HANDSHAKE_FAILED_NO_DETAIL
    | zmq.Event.DISCONNECTED
    | zmq.Event.CONNECT_RETRIED
)


class LinkWatch:
    """Lives as long as one socket. `up` from a handshake that succeeded to the disconnection."""

    def __init__(self) -> None:
        self.up = False
        self._hung_up = False
        self._broken = 0  # handshakes in a row
        self._broken_since = Nanos(0)
        self._told: tuple[LinkTrouble, Nanos] | None = None

    def observe(self, event: int, value: int, now: Nanos) -> LinkTrouble | None:
        """Take one monitor event; the trouble to tell, if any."""
        trouble = self._judge(event, value, now)
        if trouble is None or (self._told and self._told[0] == trouble and now - self._told[1] < REPEAT_AFTER):
            return None
        self._told = (trouble, now)
        return trouble

    def _judge(self, event: int, value: int, now: Nanos) -> LinkTrouble | None:
        match event:
            case zmq.Event.HANDSHAKE_SUCCEEDED:
                self.up, self._broken, self._told = True, 0, None
            case zmq.Event.DISCONNECTED:
                self.up, self._hung_up = False, True
            case zmq.Event.CONNECT_RETRIED if self._hung_up:
                self._hung_up = False  # it follows every disconnection, whose reason was told
            case zmq.Event.CONNECT_RETRIED:
                self._broken = 0
                return "unreachable"
            case zmq.Event.HANDSHAKE_FAILED_AUTH:
                return "revoked" if value == 400 else "unreachable"
            case zmq.Event.HANDSHAKE_FAILED_NO_DETAIL if value == errno.EAGAIN:
                self._broken = 0
                return "not_registered"
            case zmq.Event.HANDSHAKE_FAILED_NO_DETAIL | zmq.Event.HANDSHAKE_FAILED_PROTOCOL:
                return self._break(now)
            case _:
                pass
        return None

    def _break(self, now: Nanos) -> LinkTrouble | None:
        if self._broken == 0:
            self._broken_since = now
        self._broken += 1
        enough = self._broken >= MISMATCH_FAILURES and now - self._broken_since >= MISMATCH_AFTER
        return "key_mismatch" if enough else None
