"""The invariants by name, with what each says; and what must sometimes happen in a sweep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# Looked at after every event, but for those marked "after the heal" or "at the end".
INVARIANTS: Mapping[str, str] = {
    "applied_once": "no feedback is applied twice",
    "staleness_bounded": "no feedback older than staleness_max is applied",
    "version_by_one": "the version grows by one per step, and falls only to the last checkpoint, at a hub restart",
    "current_incarnation": "only feedback of a node's current incarnation is applied",
    "owned_feedback": "only feedback by the discriminator that its node owns is taken",
    "one_owner": "no discriminator is given to two nodes",
    "swap_decided_once": "COMMIT comes after both were PREPARED, and what was decided once stays so",
    "no_swap_in_doubt": "after the heal no running node waits longer for a decision than the hub's deadline",
    "discriminator_not_lost": "what a node is said to own it has, in its process or on its disk, as long as these last",
    "spares_known": "after the heal every running node knows what lies beside the discriminator it holds",
    "handed_over": "of what a leaver owns, and of orphans it has, a copy is left at the hub or at who is there",
    "one_discriminator_each": "after the heal every member holds the discriminator that the hub says it owns",
    "discriminator_kept": "a node that says HELLO with the discriminator it owns keeps it, also over a hub restart",
    "queues_bounded": "the buffer, a node's tasks in hand and the jobs that wait stay within their named bounds",
    "credit_kept": "no node has more tasks in flight than its credit, and none that is gone has any",
    "dead_incarnations_silent": "a session that is over is sent no work, and what it says is answered with an error",
    "samples_stay": "no private sample is in any feedback, bit for bit",
    "sound_feedback": "what is merged is finite, of the batch's shape and, as it is weighed, within the clip bound",
    "weight_bounded": "no node has more of a step than its quota, and nothing weighs more than alpha and omega allow",
    "judged_as_said": "feedback counts for samples of the classes that its node said it holds, and for no others",
    "live_are_members": "after the heal every running node is a member again within rejoin_within, and stays one",
    "healthy_not_evicted": "after the heal no running node is declared dead or quarantined",
    "version_advances": "after the heal the version grows at least every advance_within",
    "no_work_after_leave": "a node that has left is sent nothing more to do",
    "replay_equal": "at the end: a fresh hub core that is given the same events decides the same",
    "no_starvation": "after the heal every running node's feedback is merged every starve_within, or four of its tasks",
    "no_timer_outlives": "nothing happens to a process that is gone",
    "bytes_conserved": "at the end: bytes sent and duplicated = bytes received, dropped and in flight",
    "one_verdict_each": "every feedback that has come to the hub has one verdict, or waits in the buffer",
    "exits_explained": "a process ends by itself only for a reason that the run gave it",
    "no_busy_wait": "a core that was woken wants to be woken again later, never at once",
    "no_crash": "no core raises",
}

SHOWN_BY: Mapping[str, str] = {  # what must have happened at least once before an invariant can be said to hold
    "applied_once": "step",
    "staleness_bounded": "step",
    "version_by_one": "stepped",
    "current_incarnation": "step",
    "one_owner": "welcome",
    "discriminator_kept": "welcome",
    "owned_feedback": "step",
    "discriminator_not_lost": "welcome",
    "spares_known": "prepared",
    "queues_bounded": "task",
    "credit_kept": "task",
    "dead_incarnations_silent": "task",
    "sound_feedback": "step",
    "weight_bounded": "step",
    "no_work_after_leave": "goodbye",
    "handed_over": "let go",
    "no_timer_outlives": "end",
    "bytes_conserved": "task",
    "one_verdict_each": "feedback",
    "exits_explained": "exit",
    "no_busy_wait": "tick",
    "no_crash": "event",
}
OF_FLGAN: Mapping[str, str] = {  # beside those of INVARIANTS that mean something for it
    "mean_as_accounted": "an average takes what clients sent for this round, weighed by m_n over the sum of theirs",
    "mean_exact": "the averaged numbers are the weighted mean of the numbers that came",
    "round_not_held_up": "a round with enough answers closes within its timeout, whoever is dead or slow",
}
AT_THE_END = frozenset(name for name, says in INVARIANTS.items() if says.startswith("at the end"))

SOMETIMES: tuple[str, ...] = (
    "quorum_step",
    "timeout_step",
    "blocked",
    "stale",
    "late",
    "duplicate",
    "malformed",
    "fenced",
    "quota",
    "epoch",
    "warm_up",
    "clipped",
    "suspected",
    "trusted_again",
    "died",
    "rejoined",
    "restarted",
    "lost_write",
    "kept_discriminator",
    "swapped",
    "direct_swap",
    "relayed_swap",
    "peer_silent",
    "swap_aborted",
    "handed_over",
    "orphan_kept",
    "orphan_restored",
    "newcomer_copied",
    "not_adopted",
    "refused_copy",
    "spare_installed",
    "fresh_discriminator",
    "hub_restarted",
    "resumed",
    "hub_silent",
    "session_lost",
    "left",
    "refused_busy",
    "quarantined",
    "garbled",
    "unreachable",
    "duplicated_message",
    "lost_message",
    "partitioned_message",
    "completed",
)


Found = tuple[str, str, str]  # which invariant, who, what


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant that does not hold: which, when (virtual nanoseconds), at whom, and what was seen."""

    invariant: str
    at: int
    who: str
    what: str
