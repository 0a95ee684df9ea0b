"""Who only asks and gives nothing costs a node one swap, and not its own turn."""

from __future__ import annotations

from msgspec.structs import replace

from mdgan_edge.messages import Accept, Commit, Decline, GivenUp, NodeId, Peers, Seek, SwapId
from nodes.jobs import Shelve
from nodes.swapping import COPY_S, IN_VAIN_MAX
from tests.test_swapping import ANN, ASKED, BOB, COPY, GIVEN, OFFERED, THEIRS, Side


def asked_in_vain(epochs: float = 0.3) -> Side:
    """Two of three tasks are done, bob has asked, and has sent nothing."""
    side = Side(epochs)
    assert side.train(2) == []
    accepted, *_ = side.hear(THEIRS)
    assert isinstance(accepted, Accept)
    assert side.wait(COPY_S) == []
    assert side.swapping.stage is None
    side.swapping.offered(replace(OFFERED, swap_id=ASKED), side.held)
    return side


def test_a_swap_that_another_wanted_and_that_failed_does_not_put_off_its_own_turn() -> None:
    assert asked_in_vain().train() == [Seek()]


def test_a_swap_that_another_wanted_and_that_was_made_does() -> None:
    side = Side(0.3)
    side.train(2)
    side.hear(THEIRS)
    theirs = replace(COPY, swap_id=ASKED)
    assert side.hear(theirs) == [Shelve(theirs)]
    side.shelve(theirs)
    side.hear(Commit(ASKED, GIVEN.discriminator_id, GIVEN.hop))
    side.held = GIVEN
    side.swapping.moved(GIVEN)
    side.swapping.offered(replace(OFFERED, swap_id=ASKED), side.held)
    assert side.train(2) == []
    assert side.train() == [Seek()]


def test_who_asked_in_vain_is_not_accepted_again_before_the_others_own_turn_is_over() -> None:
    side = asked_in_vain()
    again = replace(THEIRS, swap_id=SwapId("bob/1/2"))
    busy = [Decline(again.swap_id, ANN, BOB, "busy")]
    assert side.hear(again) == busy
    assert side.train() == [Seek()]
    assert side.hear(again) == busy, "it would hold its turn up as well"
    assert side.hear(Peers(())) == [GivenUp()]
    assert isinstance(side.hear(again)[0], Accept)


def test_others_are_accepted_still_up_to_a_bound() -> None:
    side = Side(0.3)
    for number in range(IN_VAIN_MAX + 1):
        asked = replace(THEIRS, swap_id=SwapId(f"n{number}/1/1"), sender=NodeId(f"n{number}"))
        answer = side.hear(asked)[0]
        assert isinstance(answer, Accept if number < IN_VAIN_MAX else Decline)
        side.wait(COPY_S)
        side.swapping.offered(replace(OFFERED, swap_id=asked.swap_id), side.held)
