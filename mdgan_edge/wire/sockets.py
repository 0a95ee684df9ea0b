"""Knows the options of the two sockets, and how to bind, send and read without waiting.

Every option is set before the socket binds or connects, since most are ignored afterwards.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Sequence

import zmq

from mdgan_edge.errors import ConfigurationError
from mdgan_edge.messages import NODE_ID_PATTERN, NodeId
from mdgan_edge.wire.keys import KeyPair
from mdgan_edge.wire.outbox import Outcome
from mdgan_edge.wire.zap import ZAP_DOMAIN

FRAME_BYTES_MAX = 1024 * 1024  # libzmq cuts the connection above it
QUEUE_MESSAGES = 32  # per connection and direction inside libzmq: few, so that heartbeats need not wait behind parts
LINGER_MS = 500  # how long close() waits for what libzmq still holds
BACKLOG = 1024
HANDSHAKE_MS = 5000
CONNECT_MS = 5000
RECONNECT_MS = 200
RECONNECT_MAX_MS = 5000
KEEPALIVE_IDLE_S = 30
KEEPALIVE_INTERVAL_S = 10
KEEPALIVE_COUNT = 3

Socket = zmq.Socket[bytes]
Context = zmq.Context[Socket]


def router(context: Context, keys: KeyPair, ipv6: bool) -> Socket:
    """The hub's socket: CURVE server, and no key passes without the ZAP handler."""
    socket = context.socket(zmq.ROUTER)
    _set_common(socket, keys, ipv6)
    socket.setsockopt(zmq.CURVE_SERVER, 1)
    socket.setsockopt(zmq.ZAP_DOMAIN, ZAP_DOMAIN)
    socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
    socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
    socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
    socket.setsockopt(zmq.BACKLOG, BACKLOG)
    return socket


def dealer(context: Context, keys: KeyPair, hub_public_key: str, ipv6: bool, handshake_ms: int) -> Socket:
    """The node's socket: CURVE client of the one hub with this key.

    Not IMMEDIATE: with it, libzmq 4.3.5 throws away what came in and was not read when the connection ends.
    """
    socket = context.socket(zmq.DEALER)
    _set_common(socket, keys, ipv6)
    socket.setsockopt(zmq.CURVE_SERVERKEY, hub_public_key.encode("ascii"))
    socket.setsockopt(zmq.HANDSHAKE_IVL, handshake_ms)
    socket.setsockopt(zmq.CONNECT_TIMEOUT, CONNECT_MS)
    socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, RECONNECT_MAX_MS)
    return socket


def _set_common(socket: Socket, keys: KeyPair, ipv6: bool) -> None:
    """No HEARTBEAT_* (a full queue aborts the process), no ROUTING_ID, no HANDOVER (one node could take another's)."""
    socket.setsockopt(zmq.LINGER, LINGER_MS)
    socket.setsockopt(zmq.SNDTIMEO, 0)
    socket.setsockopt(zmq.SNDHWM, QUEUE_MESSAGES)
    socket.setsockopt(zmq.RCVHWM, QUEUE_MESSAGES)
    socket.setsockopt(zmq.MAXMSGSIZE, FRAME_BYTES_MAX)
    socket.setsockopt(zmq.IPV6, int(ipv6))
    socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
    socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, KEEPALIVE_IDLE_S)
    socket.setsockopt(zmq.TCP_KEEPALIVE_INTVL, KEEPALIVE_INTERVAL_S)
    socket.setsockopt(zmq.TCP_KEEPALIVE_CNT, KEEPALIVE_COUNT)
    socket.setsockopt(zmq.CURVE_PUBLICKEY, keys.public.encode("ascii"))
    socket.setsockopt(zmq.CURVE_SECRETKEY, keys.secret.encode("ascii"))


def bind(socket: Socket, endpoint: str) -> None:
    """Bind, or tell the operator what to do."""
    try:
        socket.bind(endpoint)
    except zmq.ZMQError as wrong:
        match wrong.errno:
            case errno.EADDRINUSE:
                mend = "is in use; stop what listens there, such as another hub, or choose another port"
            case errno.EACCES:
                mend = "needs a port above 1023"
            case errno.EADDRNOTAVAIL | errno.ENODEV:
                mend = "is not an address of this machine; tcp://*:PORT listens on all of them"
            case _:
                mend = f"cannot be bound ({wrong}); write tcp://ADDRESS:PORT"
        raise ConfigurationError(f"{endpoint} {mend}") from None


def transmit(socket: Socket, frames: Sequence[bytes]) -> Outcome:
    """Give one multipart to libzmq without waiting."""
    try:
        socket.send_multipart(frames, zmq.NOBLOCK)
    except zmq.Again:
        return Outcome.FULL
    except zmq.ZMQError as wrong:
        if wrong.errno != errno.EHOSTUNREACH:
            raise
        return Outcome.GONE
    return Outcome.SENT


def read(socket: Socket, frames_max: int) -> list[zmq.Frame]:
    """One multipart, of which frames beyond `frames_max` are thrown away; empty if none waits."""
    frames: list[zmq.Frame] = []
    more = True
    while more:
        try:
            frame = socket.recv(zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return []
        more = frame.more
        if len(frames) < frames_max:
            frames.append(frame)
    return frames


def read_monitor(monitor: Socket) -> list[bytes]:
    """One event of a socket's monitor; empty if none waits."""
    try:
        return monitor.recv_multipart(zmq.NOBLOCK)
    except zmq.Again:
        return []


def user_id(frame: zmq.Frame) -> NodeId | None:
    """The node id the ZAP handler gave to the connection this frame came over."""
    try:
        name = str(frame.get("User-Id"))
    except zmq.ZMQError:
        return None
    return NodeId(name) if re.fullmatch(NODE_ID_PATTERN, name) else None
