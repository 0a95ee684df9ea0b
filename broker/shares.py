"""How much of what is merged each node gives: weights that even shares out, and who falls behind. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from broker.jobs import Contribution
from broker.member import Member
from mdgan_edge.actors import Note
from mdgan_edge.messages import NodeId

RATE_MEMORY = 50.0  # steps over which a node's rate is averaged
WEIGHT_MIN, WEIGHT_MAX = 0.005, 200.0  # omega is never outside; docs/algorithm.md says why so wide
LOW_SHARE = 0.25  # of its fair share: a node below is named
FAIR_MIN = 20.0  # feedback that would have been a node's fair share before its own is judged


class Shares:
    """`even_out`: weigh each node's feedback so that all nodes weigh alike (rate-fair weights)."""

    def __init__(self, even_out: bool) -> None:
        self._even_out = even_out
        self._fair = 0.0  # what a node that was live all the time would have given
        self._from: dict[NodeId, tuple[float, int]] = {}  # at a node's first look: that, and what it had given
        self._rates: dict[NodeId, float] = {}  # parts of steps without omega, averaged over steps at which it was live
        self._mean_rate = 0.0
        self._warned: set[NodeId] = set()

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
        usual = self._mean_rate or 1.0 / len(live)  # a newcomer is taken for one of average pace
        for node in live:
            rate = self._rates.get(node, usual)
            self._rates[node] = rate + (given[node] / total - rate) / RATE_MEMORY
        self._mean_rate = sum(self._rates[node] for node in live) / len(live)

    def behind(self, members: Iterable[Member]) -> list[tuple[Member, float]]:
        """Members that give less than a quarter of their fair share, each once; with what they give of it."""
        found: list[tuple[Member, float]] = []
        for member in members:
            if not member.live or member.node in self._warned:
                continue
            fair_before, merged_before = self._from.setdefault(member.node, (self._fair, member.tally.merged))
            fair = self._fair - fair_before
            if fair < FAIR_MIN:
                continue
            part = (member.tally.merged - merged_before) / fair
            if part < LOW_SHARE:
                self._warned.add(member.node)
                found.append((member, part))
        return found


def low_share(member: Member, part: float) -> Note:
    """What the journal says of a member that is behind, once."""
    refused = {verdict.value: count for verdict, count in sorted(member.tally.refused.items()) if count}
    why = f"{member.node} gives {part:.0%} of its fair share: its classes may be learned last (training.rate_fair)"
    return Note("low_share", why, {"node": member.node, "part": part, "refused": refused}, "warning")
