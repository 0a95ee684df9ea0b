"""How much of what is merged each node gives: weights that even shares out, and who falls behind. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from broker.jobs import Contribution
from broker.member import Member
from mdgan_edge.actors import Note
from mdgan_edge.messages import NodeId

RATE_MEMORY = 50.0  # steps over which a node's rate is averaged
NEWCOMER_STEPS = 10.0  # a newcomer is taken for one of average pace, which counts as so many steps
WEIGHT_MIN, WEIGHT_MAX = 0.005, 200.0  # omega is never outside; docs/algorithm.md says why so wide
LOW_SHARE = 0.25  # of its fair share: a node below is named ...
RECOVERED_SHARE = 0.5  # ... and may be named again once it was above this
FAIR_MIN = 20.0  # each time so much feedback would have been a node's fair share, its own is judged


@dataclass(slots=True)
class Account:
    """What a node's fair share was since it was last judged, and what it had given then."""

    merged_before: int
    fair: float = 0.0
    warned: bool = False


class Shares:
    """`even_out`: weigh each node's feedback so that all nodes weigh alike (rate-fair weights)."""

    def __init__(self, even_out: bool) -> None:
        self._even_out = even_out
        self._fair = 0.0  # what a node that was there since the last look would have given
        self._accounts: dict[NodeId, Account] = {}
        self._rates: dict[NodeId, float] = {}  # parts of steps without omega, averaged over steps at which it was live
        self._steps: dict[NodeId, int] = {}  # at which it was live
        self._mean_rate = 0.0

    def omega(self, node: NodeId) -> float:
        """mean rate / own rate, bounded: what the node's feedback weighs beside alpha.

        A node that is little of a step without omega, and gives in a part p of all steps of N nodes, then weighs
        Np/(1 + p(N - 1)) of its fair share: half or more as long as fairness is possible at all, p >= 1/N.
        """
        own = self._rates.get(node)
        if not self._even_out or own is None:
            return 1.0
        return min(WEIGHT_MAX, max(WEIGHT_MIN, self._mean_rate / own)) if own > 0 else WEIGHT_MAX

    def stepped(self, merged: Sequence[Contribution], live: list[NodeId]) -> None:
        """A step has merged these, weighed with the omega that still holds."""
        self._fair += len(merged) / max(1, len(live))
        if not self._even_out or not live:
            return
        given: defaultdict[NodeId, float] = defaultdict(float)
        for one in merged:
            given[one.node] += one.part / self.omega(one.node)  # alpha
        total = sum(given.values())
        usual = self._mean_rate or 1.0 / len(live)
        for node in live:
            rate, steps = self._rates.get(node, usual), self._steps.get(node, 0) + 1
            self._rates[node] = rate + (given[node] / total - rate) / min(RATE_MEMORY, NEWCOMER_STEPS + steps)
            self._steps[node] = steps
        self._mean_rate = sum(self._rates[node] for node in live) / len(live)

    def behind(self, there: Iterable[Member]) -> list[tuple[Member, float]]:
        """Who of those that are `there` has come to give less than a quarter of its fair share, and what it gives.

        Fair is a share of what was merged while a member was there: nothing is asked of it for other times. To be
        called often.
        """
        found: list[tuple[Member, float]] = []
        passed, self._fair = self._fair, 0.0
        for member in there:
            account = self._accounts.get(member.node)
            if account is None:
                self._accounts[member.node] = Account(member.tally.merged)
                continue
            account.fair += passed
            if account.fair >= FAIR_MIN and (part := self._judge(account, member)) is not None:
                found.append((member, part))
        return found

    def _judge(self, account: Account, member: Member) -> float | None:
        """What it gives of its fair share, if it is to be named; a new account begins."""
        part = (member.tally.merged - account.merged_before) / account.fair
        account.fair, account.merged_before = 0.0, member.tally.merged
        named = part < LOW_SHARE and not account.warned
        account.warned = part < RECOVERED_SHARE and (account.warned or named)
        return part if named else None


def low_share(member: Member, part: float) -> Note:
    """What the journal says of a member that has fallen behind."""
    refused = {verdict.value: count for verdict, count in sorted(member.tally.refused.items()) if count}
    why = f"{member.node} gives {part:.0%} of its fair share: its classes may be learned last (training.rate_fair)"
    return Note("low_share", why, {"node": member.node, "part": part, "refused": refused}, "warning")
