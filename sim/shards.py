"""Which images each node of a virtual world holds: the first as in a swarm of that size, later ones any of these."""

from __future__ import annotations

from mdgan_edge.data.images import Images
from mdgan_edge.data.shards import parse_shard, shard_text, take
from mdgan_edge.messages import NodeId
from mdgan_edge.settings import Settings
from mdgan_edge.streams import stream_seed
from sim.scenario.compiling import node_names


class Shards:
    """Of `nodes` nodes. Shards are dealt when they are asked for, and kept."""

    def __init__(self, settings: Settings, images: Images, nodes: int) -> None:
        self._spec, self._seed = settings.swarm.shards, settings.training.seed
        self._images, self._nodes = images, nodes
        self._ranks = {name: rank for rank, name in enumerate(node_names(nodes))}
        self._dealt: dict[int, Images] = {}

    def of(self, node: NodeId) -> Images:
        """The node's own. Raises ConfigurationError for a shard that cannot be dealt."""
        rank = self._ranks.get(node, stream_seed(self._seed, "shard", node) % self._nodes)
        if rank not in self._dealt:
            spec = parse_shard(shard_text(self._spec, rank, self._nodes))
            self._dealt[rank] = take(self._images, spec, self._seed)
        return self._dealt[rank]
