"""What the sockets between nodes do: on loopback, with real CURVE, admissions that end, and deadlines, not sleeps."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import zmq

from mdgan_edge.actors import HUB, Admit, Dial, Garbled, HangUp, Header, Heard, Nanos, Peer, Received, Send, TurnAway
from mdgan_edge.errors import ConfigurationError
from mdgan_edge.messages import Copy, DiscriminatorId, Epoch, NodeId, PeerMessage, Ping, Propose, SwapId, Tensor
from mdgan_edge.wire.keys import KeyPair, generate
from mdgan_edge.wire.parts import PART_BYTES
from mdgan_edge.wire.peers import ADMITTED_FOR, ADMITTED_MAX, endpoint_to_tell
from mdgan_edge.wire.sockets import FRAME_BYTES_MAX
from mdgan_edge.wire.transport import NodeEndpoint
from tests.network import LOOPBACK, Network, clock

ANN, BOB = NodeId("ann"), NodeId("bob")
HEADER = Header(Epoch(3))


@dataclass
class Pair:
    """Two nodes on loopback; bob can be called. The hub they know of is not there."""

    network: Network
    ann: NodeEndpoint
    bob: NodeEndpoint
    ann_keys: KeyPair
    bob_keys: KeyPair

    def admit(self, ago: int = 0) -> None:
        self.bob.carry(Admit(ANN, self.ann_keys.public), Nanos(clock() - ago))

    def dial(self, key: str | None = None) -> None:
        assert self.bob.peers.endpoint is not None
        self.ann.carry(Dial(BOB, key or self.bob_keys.public, self.bob.peers.endpoint), clock())

    def say(self, message: PeerMessage | None = None) -> bool:
        return self.ann.send(Send(Peer(BOB), message or propose(), HEADER))

    def heard(self, count: int = 1) -> list[Received]:
        return self.network.received(self.bob, count)

    def called(self) -> Peer:
        """Ann has called bob, who knows the connection now."""
        self.admit()
        self.dial()
        self.say()
        return self.heard()[0].sender


@pytest.fixture(name="pair")
def two_nodes(network: Network) -> Pair:
    hub, keys = network.hub(), (generate(), generate())
    ends = [network.peer(hub.endpoint, one, listen) for one, listen in zip(keys, ("", LOOPBACK), strict=True)]
    return Pair(network, *ends, *keys)


def propose(number: int = 1) -> Propose:
    return Propose(SwapId(f"ann/1/{number}"), ANN, BOB, DiscriminatorId("d1-ann"), 0, "fingerprint")


def copy(size: int) -> Copy:
    numbers = Tensor("float32", (size // 4,), bytes(size))
    return Copy(SwapId("ann/1/1"), ANN, BOB, DiscriminatorId("d1-ann"), 0, "fingerprint", "digest", numbers)


# --- a call -----------------------------------------------------------------------------------------------------------


def test_both_speak_over_the_one_connection_that_the_caller_made(pair: Pair) -> None:
    pair.admit()
    pair.dial()
    pair.say(propose())
    (said,) = pair.heard()
    assert (said.sender.node, bool(said.sender.link), said.header, said.message) == (ANN, True, HEADER, propose())
    pair.bob.send(Send(said.sender, propose(2), HEADER))
    assert pair.network.received(pair.ann) == [Received(Peer(BOB), HEADER, propose(2))]


def test_big_copies_arrive_in_parts_in_both_directions(pair: Pair) -> None:
    ann = pair.called()
    pair.say(copy(20 * PART_BYTES))
    pair.bob.send(Send(ann, copy(10 * PART_BYTES), HEADER))
    assert pair.heard(2)[1].message == copy(20 * PART_BYTES)
    assert pair.network.received(pair.ann)[0].message == copy(10 * PART_BYTES)
    assert pair.network.events[pair.bob].count(Heard(ann)) == 21
    assert pair.network.events[pair.ann].count(Heard(Peer(BOB))) == 11


def test_after_hanging_up_the_connection_is_closed_and_what_was_to_go_is_dropped(pair: Pair) -> None:
    quiet = pair.ann.sockets()
    ann = pair.called()
    assert len(pair.ann.sockets()) == len(quiet) + 1
    pair.ann.carry(HangUp(BOB), clock())
    assert pair.ann.sockets() == quiet
    assert not pair.say(), "there is no connection"
    pair.network.until(lambda: not pair.bob.send(Send(ann, propose(2))))
    assert not pair.bob.pending()


def test_a_new_call_to_the_same_node_takes_the_place_of_the_old_one(pair: Pair) -> None:
    first = pair.called()
    pair.dial()
    pair.say(propose(2))
    assert pair.heard(2)[1].sender.link != first.link
    pair.network.until(lambda: not pair.bob.send(Send(first, propose(3))))


def test_a_message_to_the_hub_never_goes_to_a_node_and_the_other_way_round(pair: Pair) -> None:
    pair.called()
    pair.ann.send(Send(HUB, Ping(7)))
    pair.say(propose(2))
    assert [event.message for event in pair.heard(2)] == [propose(), propose(2)]
    hub = pair.network.ends[0]
    assert [event.message for event in pair.network.received(hub)] == [Ping(7)]


# --- who is let in ----------------------------------------------------------------------------------------------------


def test_a_strangers_key_is_refused(pair: Pair) -> None:
    pair.bob.carry(Admit(ANN, generate().public), clock())
    pair.dial()
    pair.say()
    pair.network.until(lambda: pair.bob.peers.refused["unknown key"] > 0)
    assert pair.network.messages(pair.bob) == []


def test_a_peer_whose_admission_has_expired_is_refused(pair: Pair) -> None:
    pair.admit(ago=ADMITTED_FOR)
    pair.dial()
    pair.say()
    pair.network.until(lambda: pair.bob.peers.refused["unknown key"] > 0)
    assert pair.network.messages(pair.bob) == []


def test_a_connection_does_not_outlive_its_admission(pair: Pair) -> None:
    pair.called()
    pair.network.ends.remove(pair.bob)
    pair.say(propose(2))
    assert wait_readable(pair.bob)
    assert pair.bob.receive(Nanos(clock() + ADMITTED_FOR)) == []
    assert pair.bob.peers.turned_away == 1
    pair.network.ends.append(pair.bob)


def test_a_peer_that_comes_before_the_notice_is_let_in_when_it_tries_again(pair: Pair) -> None:
    pair.dial()
    pair.say()
    pair.network.until(lambda: pair.bob.peers.refused["unknown key"] > 0)
    pair.admit()
    assert pair.heard()[0].message == propose()


def test_a_peer_that_was_turned_away_is_not_heard_until_it_is_admitted_again(pair: Pair) -> None:
    pair.called()
    pair.bob.carry(TurnAway(ANN), clock())
    pair.say(propose(2))
    pair.network.until(lambda: pair.bob.peers.turned_away == 1)
    pair.admit()
    pair.say(propose(3))
    assert [event.message for event in pair.heard(2)] == [propose(), propose(3)]


def test_a_node_that_does_not_own_the_key_it_is_called_by_hears_nothing(pair: Pair) -> None:
    pair.admit()
    pair.dial(key=generate().public)
    pair.say()
    watch = pair.ann.sockets()[-1].get_monitor_socket(zmq.Event.HANDSHAKE_FAILED_NO_DETAIL | zmq.Event.DISCONNECTED)
    pair.network.until(lambda: bool(watch.poll(0)))
    watch.close()
    pair.ann.sockets()[-1].disable_monitor()
    assert pair.network.messages(pair.bob) == []


def test_a_node_that_is_called_as_the_hub_is_can_neither_call_nor_be_called(pair: Pair) -> None:
    pair.bob.carry(Admit(HUB.node, pair.ann_keys.public), clock())
    pair.dial()
    pair.say()
    pair.network.until(lambda: pair.bob.peers.refused["unknown key"] > 0)
    quiet = pair.ann.sockets()
    assert pair.bob.peers.endpoint is not None
    pair.ann.carry(Dial(HUB.node, pair.bob_keys.public, pair.bob.peers.endpoint), clock())
    assert pair.ann.sockets() == quiet


def test_of_too_many_admissions_the_oldest_make_room(pair: Pair) -> None:
    pair.admit()
    for number in range(ADMITTED_MAX):
        pair.bob.carry(Admit(NodeId(f"n{number}"), generate().public), clock())
    pair.dial()
    pair.say()
    pair.network.until(lambda: pair.bob.peers.refused["unknown key"] > 0)


# --- what is said wrong -----------------------------------------------------------------------------------------------


def test_bytes_that_are_no_message_are_told_with_the_node_that_sent_them(pair: Pair) -> None:
    ann = pair.called()
    pair.ann.sockets()[-1].send_multipart([b"hello", b"world"])
    pair.network.until(lambda: any(isinstance(event, Garbled) for event in pair.network.events[pair.bob]))
    assert Garbled(ann, "header", "header: 5 bytes") in pair.network.events[pair.bob]


def test_an_oversized_frame_never_arrives(pair: Pair) -> None:
    ann = pair.called()
    pair.ann.sockets()[-1].send_multipart([b"x", bytes(FRAME_BYTES_MAX + 1)])
    pair.network.until(lambda: not pair.bob.send(Send(ann, propose(2))))
    assert len(pair.network.messages(pair.bob)) == 1


@pytest.mark.parametrize(
    "endpoint",
    ["inproc://zeromq.zap.01", "ipc://somewhere", "tcp://a.name:1", "tcp://127.0.0.1:1;127.0.0.1:2", "x", ""],
)
def test_what_is_no_address_of_another_machine_is_not_called(pair: Pair, endpoint: str) -> None:
    quiet = pair.ann.sockets()
    pair.ann.carry(Dial(BOB, pair.bob_keys.public, endpoint), clock())
    assert pair.ann.sockets() == quiet
    assert not pair.say()


def test_a_key_that_is_none_is_not_called(pair: Pair) -> None:
    quiet = pair.ann.sockets()
    pair.ann.carry(Dial(BOB, "no key", "tcp://127.0.0.1:1"), clock())
    assert pair.ann.sockets() == quiet


def test_a_place_to_listen_that_is_none_is_explained(network: Network) -> None:
    with pytest.raises(ConfigurationError, match=r"node\.peer_bind: nonsense cannot be bound"):
        network.peer(network.hub().endpoint, generate(), "nonsense")


# --- what others are told ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "bound", "told"),
    [
        ("", None, None),
        ("", "tcp://192.0.2.7:5756", "tcp://192.0.2.7:5756"),
        ("tcp://192.0.2.7:5756", "tcp://0.0.0.0:5756", "tcp://192.0.2.7:5756"),
        ("tcp://[2001:db8::7]:5756", "tcp://[::]:5756", "tcp://[2001:db8::7]:5756"),
    ],
)
def test_others_are_told_what_the_operator_says_or_what_was_bound(said: str, bound: str | None, told: str) -> None:
    assert endpoint_to_tell(said, bound) == told


@pytest.mark.parametrize(
    ("said", "bound", "wrong"),
    [
        ("tcp://192.0.2.7:5756", None, "means nothing without node.peer_bind"),
        ("", "tcp://0.0.0.0:5756", "say with node.peer_endpoint by which one"),
        ("tcp://a.name:5756", "tcp://0.0.0.0:5756", "write tcp://ADDRESS:PORT, no name"),
        ("tcp://999.1.1.1:5756", "tcp://0.0.0.0:5756", "is no address to connect to"),
        ("tcp://192.0.2.7:99999", "tcp://0.0.0.0:5756", "is no address to connect to"),
        ("tcp://192.0.2.7:0", "tcp://0.0.0.0:5756", "is no address to connect to"),
        ("tcp://[2001:db8::7::1]:5756", "tcp://[::]:5756", "is no address to connect to"),
    ],
)
def test_what_others_could_not_use_is_explained(said: str, bound: str | None, wrong: str) -> None:
    with pytest.raises(ConfigurationError, match=wrong):
        endpoint_to_tell(said, bound)


def wait_readable(end: NodeEndpoint) -> bool:
    poller = zmq.Poller()
    for socket in end.peers.sockets():
        poller.register(socket, zmq.POLLIN)
    return bool(poller.poll(5000))
