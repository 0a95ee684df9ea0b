"""What every process of a swarm shares: messages, settings, the networks, the data and the wire."""

__version__ = "0.1.0"
