"""When the node last heard and spoke, and so when the next HELLO or heartbeat is due and when to give up. Pure times.

All jitter is drawn from the node's own named stream, so that the same node does the same in every world.
"""

from __future__ import annotations

from mdgan_edge.actors import Nanos, nanos
from mdgan_edge.messages import Incarnation, NodeId
from mdgan_edge.streams import SEED_BITS, stream_seed

HELLO_ANSWER_S = 5.0  # how long a HELLO may stay unanswered before the next
BACKOFF_FIRST_S = 0.5  # full jitter between 0 and this ...
BACKOFF_MAX_S = 5.0  # ... doubling up to this: a hub that is back is greeted within 10 s
DOUBLINGS_MAX = 30  # a float holds no more than 1023
HELLO_GAP_S = 0.5  # the least time between two HELLOs
HEARTBEAT_JITTER = 0.25  # a heartbeat comes up to this fraction early


class Contact:
    """The node's clockwork towards its hub."""

    def __init__(self, node: NodeId, incarnation: Incarnation, death_timeout_s: float, now: Nanos) -> None:
        self._node = node
        self._incarnation = incarnation
        self._death = nanos(death_timeout_s)
        self._heartbeat_s = 0.0
        self._heartbeat = self._silence = Nanos(0)  # how long not to speak, and not to hear, at the most
        self._heard_at = self._sent_at = self._hello_at = now
        self._hello_last: Nanos | None = None
        self._hellos = 0  # since the last WELCOME
        self._pings = 0
        self.quiet_until = now  # until then there is nothing to say to the hub, and its own silence means nothing

    def heard(self, now: Nanos) -> None:
        self._heard_at = now
        if self.quiet_until < self._sent_at + self._heartbeat:  # it was the hub's silence that came first
            self._settle()

    def sent(self, now: Nanos) -> None:
        self._sent_at = now
        self._settle()

    def _settle(self) -> None:
        speak_at, silent_at = self._sent_at + self._heartbeat, self._heard_at + self._silence
        self.quiet_until = Nanos(min(speak_at, silent_at))

    def welcomed(self, heartbeat_s: float, lease_s: float) -> None:
        """The hub dictates the timings."""
        self._heartbeat_s, self._hellos = heartbeat_s, 0
        self._silence = Nanos(min(nanos(lease_s), self._death))  # a lease may exceed the death timeout
        self._draw_heartbeat()

    # --- HELLO ----------------------------------------------------------------------------------------------------

    @property
    def hello_at(self) -> Nanos:
        return self._hello_at

    def greet_soon(self, now: Nanos) -> None:
        """The session is lost: HELLO at once, but not more often than HELLO_GAP_S."""
        earliest = now if self._hello_last is None else Nanos(self._hello_last + nanos(HELLO_GAP_S))
        self._hello_at = Nanos(max(now, earliest))

    def hello_sent(self, now: Nanos) -> bool:
        """Note a HELLO; True if the one before it stayed unanswered, so that the socket is to be made anew."""
        unanswered = self._hellos > 0
        self._hellos += 1
        self._hello_last = now
        self.sent(now)
        self._hello_at = Nanos(now + nanos(HELLO_ANSWER_S + self._backoff_s()))
        return unanswered

    def _backoff_s(self) -> float:
        most = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2.0 ** min(self._hellos - 1, DOUBLINGS_MAX))
        return most * self._chance("backoff", self._hellos)

    # --- heartbeats -----------------------------------------------------------------------------------------------

    def ping(self) -> int:
        """The number of the next PING."""
        self._pings += 1
        self._draw_heartbeat()
        return self._pings

    def _draw_heartbeat(self) -> None:
        early = HEARTBEAT_JITTER * self._chance("heartbeat", self._pings)
        self._heartbeat = nanos(self._heartbeat_s * (1 - early))
        self._settle()

    # --- silence --------------------------------------------------------------------------------------------------

    @property
    def silent_at(self) -> Nanos:
        """When the hub has been silent for a lease: time for a new socket."""
        return Nanos(self._heard_at + self._silence)

    @property
    def gives_up_at(self) -> Nanos:
        """When the hub has been silent for the death timeout."""
        return Nanos(self._heard_at + self._death)

    def _chance(self, what: str, n: int) -> float:
        """In [0, 1), different for every node, start and count."""
        return stream_seed(self._incarnation, what, self._node, n) / float(1 << SEED_BITS)
