"""The node's side of a swap: whom it asks, what it gives, and that it takes nothing before the hub has decided."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from mdgan_edge.actors import Nanos, Note, nanos
from mdgan_edge.messages import (
    Abort,
    Accept,
    Commit,
    Copy,
    Decline,
    DiscriminatorId,
    GivenUp,
    HeldDiscriminator,
    Incarnation,
    Installed,
    Message,
    Neighbour,
    NodeId,
    Peers,
    Prepared,
    Propose,
    Seek,
    SwapId,
    Tensor,
)
from nodes.jobs import Install, Offer, Offered, Shelve, Shelved
from nodes.swapping import (
    ANSWER_S,
    ASK_AGAIN_S,
    COPY_BYTES_MAX,
    COPY_S,
    ROUNDS_MAX,
    TRIES_MAX,
    Act,
    Stage,
    Swapping,
)
from tests.node_world import HELD, TERMS

ANN, BOB, CAROL = NodeId("ann"), NodeId("bob"), NodeId("carol")
START = nanos(1000.0)
SWAP = SwapId("ann/4/1")
ASKED = SwapId("bob/1/1")
ROW = Tensor("float32", (2,), b"12345678")
BOBS = HeldDiscriminator(DiscriminatorId("d2-bob"), 3, HELD.architecture, 9)
GIVEN = HeldDiscriminator(BOBS.discriminator_id, BOBS.hop + 1, BOBS.architecture, 0)  # as it will be called here
OFFERED = Offered(SWAP, "digest", ROW, None)

PROPOSE = Propose(SWAP, ANN, BOB, HELD.discriminator_id, HELD.hop, HELD.architecture)
ACCEPT = Accept(SWAP, BOB, ANN, BOBS.discriminator_id, BOBS.hop)
COPY = Copy(SWAP, BOB, ANN, BOBS.discriminator_id, BOBS.hop, BOBS.architecture, "digest", ROW)
MINE = Copy(SWAP, ANN, BOB, HELD.discriminator_id, HELD.hop, HELD.architecture, "digest", ROW)
PREPARED = Prepared(SWAP, BOB, HELD.discriminator_id, HELD.hop, BOBS.discriminator_id, BOBS.hop)
COMMIT = Commit(SWAP, GIVEN.discriminator_id, GIVEN.hop)
THEIRS = Propose(ASKED, BOB, ANN, BOBS.discriminator_id, BOBS.hop, BOBS.architecture)
SWAPPED = Note(
    "swapped", "the hub has put it on record", {"discriminator": "d2-bob", "hop": 4, "from": BOB, "direct": False}
)


class Side:
    """One node's side, with a clock. Due for a swap after every task."""

    def __init__(self, swap_epochs: float = 0.1) -> None:
        self.now = START
        self.held = HELD
        self.swapping = Swapping(ANN, Incarnation(4), 100)
        self.swapping.welcomed(replace(TERMS, swap_epochs=swap_epochs))

    def hear(self, message: Message) -> list[Act]:
        return self.swapping.received(message, self.held, self.now)

    def wait(self, seconds: float) -> list[Act]:
        self.now = Nanos(self.now + nanos(seconds))
        return self.swapping.act(self.held, self.now)

    def train(self, tasks: int = 1) -> list[Act]:
        for _ in range(tasks):
            self.swapping.trained()
        return self.wait(0)

    def shelve(self, copy: Copy = COPY, trouble: str | None = None) -> list[Act]:
        return self.swapping.shelved(Shelved(copy, trouble, (GIVEN,)), self.held, self.now)


def seeking() -> Side:
    side = Side()
    assert side.train() == [Seek()]
    return side


def asking(*peers: NodeId) -> Side:
    side = seeking()
    (proposed,) = side.hear(Peers(tuple(map(Neighbour, peers or (BOB,)))))
    assert isinstance(proposed, Propose)
    return side


def giving() -> Side:
    side = asking()
    assert side.hear(ACCEPT) == [Offer(SWAP)]
    return side


def prepared() -> Side:
    side = giving()
    assert side.hear(COPY) == [Shelve(COPY)]
    assert side.shelve() == [PREPARED]
    return side


# --- asking -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("epochs", "tasks"), [(0.1, 1), (0.3, 3), (1.0, 10), (0.31, 4)])
def test_a_swap_is_due_after_so_many_tasks_as_make_e_local_epochs(epochs: float, tasks: int) -> None:
    side = Side(epochs)
    assert side.train(tasks - 1) == []
    assert side.train() == [Seek()]


def test_where_swaps_are_off_none_is_ever_due() -> None:
    assert Side(0.0).train(1000) == []


def test_one_of_the_peers_that_the_hub_names_is_asked() -> None:
    assert seeking().hear(Peers(tuple(map(Neighbour, (BOB,))))) == [PROPOSE]


def test_peers_that_nobody_asked_for_are_passed_over() -> None:
    assert Side().hear(Peers(tuple(map(Neighbour, (BOB,))))) == []


def test_who_declines_is_not_waited_for_and_not_asked_again() -> None:
    side = asking(BOB, CAROL)
    first = side.swapping.swap_id
    partner = side.swapping._partner
    (again,) = side.hear(Decline(first, partner, ANN, "busy"))
    assert isinstance(again, Propose)
    assert {partner, again.to} == {BOB, CAROL}
    assert again.swap_id != first


def test_after_three_tries_others_are_asked_for_and_after_some_rounds_the_next_turn_is_waited_for() -> None:
    side = seeking()
    for last in (False,) * (ROUNDS_MAX - 1) + (True,):
        side.hear(Peers(tuple(map(Neighbour, (BOB, CAROL, NodeId("dave"), NodeId("eve"))))))
        answers = [side.wait(ANSWER_S) for _ in range(TRIES_MAX)]
        said = [[type(one) for one in acts] for acts in answers]
        assert said == [[Decline, Propose], [Decline, Propose], [Decline, GivenUp] if last else [Decline]]
        assert side.swapping.stage is (None if last else Stage.PAUSING)
        assert side.wait(100) == ([] if last else [Seek()])
    assert side.train() == [Seek()]


def test_who_did_not_answer_is_told_that_nobody_waits_for_it_any_more() -> None:
    side = asking(BOB)
    swap_id = side.swapping.swap_id
    assert side.wait(ANSWER_S)[0] == Decline(swap_id, ANN, BOB, "busy")
    other = Side()  # its ACCEPT was lost
    other.hear(THEIRS)
    other.hear(Decline(ASKED, THEIRS.sender, ANN, "busy"))
    assert other.swapping.stage is None


def test_a_hub_that_names_nobody_in_time_is_asked_again() -> None:
    side = seeking()
    assert side.wait(ANSWER_S) == [Seek()]


def test_no_two_proposals_bear_the_same_name_over_all_starts() -> None:
    names = []
    for incarnation in (1, 2):
        swapping = Swapping(ANN, Incarnation(incarnation), 100)
        swapping.welcomed(replace(TERMS, swap_epochs=0.1))
        for _ in range(2):
            swapping.trained()
            swapping.act(HELD, START)
            swapping.received(Peers(tuple(map(Neighbour, (BOB,)))), HELD, START)
            names.append(swapping.swap_id)
            swapping.welcomed(replace(TERMS, swap_epochs=0.1))
    assert len(set(names)) == len(names)


# --- being asked ------------------------------------------------------------------------------------------------------


def test_who_is_asked_accepts_and_gives_at_once() -> None:
    accept = Accept(ASKED, ANN, BOB, HELD.discriminator_id, HELD.hop)
    assert Side().hear(THEIRS) == [accept, Offer(ASKED)]


def test_who_is_in_a_swap_already_is_busy_and_the_same_proposal_is_answered_once() -> None:
    side = Side()
    assert len(side.hear(THEIRS)) == 2
    assert side.hear(THEIRS) == []
    assert side.hear(replace(THEIRS, swap_id=SwapId("other"))) == [Decline(SwapId("other"), ANN, BOB, "busy")]


def test_who_has_nothing_to_swap_yet_is_busy() -> None:
    assert Side().swapping.received(THEIRS, None, START) == [Decline(ASKED, ANN, BOB, "busy")]


def test_another_kind_of_network_is_declined() -> None:
    assert Side().hear(replace(THEIRS, architecture="other")) == [Decline(ASKED, ANN, BOB, "bad")]


def test_two_that_ask_each_other_at_once_are_both_busy() -> None:
    assert asking().hear(THEIRS) == [Decline(ASKED, ANN, BOB, "busy")]


# --- giving -----------------------------------------------------------------------------------------------------------


def test_the_copy_goes_to_the_partner_in_the_name_it_has_now() -> None:
    assert giving().swapping.offered(OFFERED, HELD) == [MINE]


def test_a_copy_that_was_made_for_a_swap_that_is_over_goes_nowhere() -> None:
    side = giving()
    side.hear(Decline(SWAP, BOB, ANN, "bad"))
    assert side.swapping.offered(OFFERED, HELD) == []


def test_a_copy_that_overtook_its_accept_waits_for_it() -> None:
    side = asking()
    assert side.hear(COPY) == []
    assert side.hear(ACCEPT) == [Offer(SWAP), Shelve(COPY)]


def test_a_copy_of_something_else_than_was_agreed_on_is_passed_over() -> None:
    assert giving().hear(replace(COPY, hop=COPY.hop + 1)) == []


@pytest.mark.parametrize("forged", [replace(COPY, sender=CAROL), replace(COPY, swap_id=SwapId("other"))])
def test_a_copy_of_somebody_else_or_of_another_swap_is_passed_over(forged: Copy) -> None:
    assert giving().hear(forged) == []


def test_a_bad_copy_is_said_to_be_bad_and_the_swap_is_over() -> None:
    side = giving()
    side.hear(COPY)
    bad, decline, over = side.shelve(trouble="its digest is another")
    assert bad == Note("bad_copy", "its digest is another", {"from": BOB}, "warning")
    assert (decline, over) == (Decline(SWAP, ANN, BOB, "bad"), GivenUp())
    assert side.swapping.stage is None


def test_a_copy_that_does_not_come_in_time_ends_the_swap_and_late_it_is_passed_over() -> None:
    side = giving()
    assert side.wait(COPY_S) == [GivenUp()]
    assert side.swapping.stage is None
    assert side.hear(COPY) == []


def test_what_was_shelved_after_the_swap_was_given_up_is_not_told() -> None:
    side = giving()
    side.hear(COPY)
    side.wait(COPY_S)
    assert side.shelve() == []


def test_a_copy_that_comes_twice_is_shelved_once() -> None:
    side = giving()
    assert [side.hear(COPY) for _ in range(20)] == [[Shelve(COPY)], *[[]] * 19]


def test_no_peer_can_make_a_node_copy_its_discriminator_faster_than_its_trainer_does() -> None:
    side = Side()
    assert len(side.hear(THEIRS)) == 2
    for number in range(20):
        side.hear(Decline(side.swapping.swap_id, BOB, ANN, "bad"))
        again = replace(THEIRS, swap_id=SwapId(f"again {number}"))
        assert side.hear(again) == [Decline(again.swap_id, ANN, BOB, "busy")]
    assert side.train() == []
    assert side.swapping.offered(Offered(ASKED, "digest", ROW, None), HELD) == []
    assert len(side.hear(replace(THEIRS, sender=CAROL))) == 2


# --- the decision -----------------------------------------------------------------------------------------------------


def test_nothing_but_commit_makes_a_node_install() -> None:
    side = prepared()
    deaf: list[Message] = [
        ACCEPT,
        COPY,
        Decline(SWAP, BOB, ANN, "bad"),
        Peers(tuple(map(Neighbour, (CAROL,)))),
        Abort(SwapId("other")),
    ]
    assert [side.hear(message) for message in deaf] == [[]] * len(deaf)
    assert side.swapping.stage is Stage.PREPARED
    assert side.hear(COMMIT) == [Install(GIVEN.discriminator_id, GIVEN.hop)]


def test_a_node_in_doubt_asks_until_it_knows_and_never_gives_up() -> None:
    side = prepared()
    assert [side.wait(ASK_AGAIN_S) for _ in range(100)] == [[PREPARED]] * 100
    assert side.wait(ASK_AGAIN_S / 2) == []


def test_commit_of_another_swap_is_passed_over() -> None:
    assert prepared().hear(replace(COMMIT, swap_id=SwapId("other"))) == []


def test_commit_before_prepared_is_passed_over() -> None:
    assert giving().hear(COMMIT) == []


def test_commit_said_again_while_installing_asks_for_nothing_and_afterwards_is_answered() -> None:
    side = prepared()
    side.hear(COMMIT)
    assert side.hear(COMMIT) == []
    side.held = GIVEN
    assert side.swapping.moved(GIVEN) == [Installed(SWAP), SWAPPED]
    assert side.hear(COMMIT) == [Installed(SWAP)]


def test_after_abort_the_node_is_free_and_keeps_what_it_has() -> None:
    side = prepared()
    assert side.hear(Abort(SWAP)) == [GivenUp()]
    assert side.swapping.stage is None
    assert side.hear(COMMIT) == []


def test_abort_after_commit_changes_nothing() -> None:
    side = prepared()
    side.hear(COMMIT)
    side.hear(Abort(SWAP))
    assert side.swapping.stage is Stage.INSTALLING


def test_a_new_session_settles_whatever_was_open() -> None:
    for side in (seeking(), asking(), giving(), prepared()):
        side.swapping.welcomed(TERMS)
        assert side.swapping.stage is None


def test_a_discriminator_that_no_message_can_hold_is_never_swapped() -> None:
    side = giving()
    huge = Tensor("float32", (COPY_BYTES_MAX // 4 + 1,), b"")
    note, over = side.swapping.offered(replace(OFFERED, numbers=huge), HELD)
    assert isinstance(note, Note)
    assert "at most 62914560 can travel: no swaps" in note.why
    assert over == GivenUp()
    assert side.train(100) == []
    assert side.hear(THEIRS) == [Decline(ASKED, ANN, BOB, "busy")]
