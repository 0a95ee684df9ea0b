"""What happens to a simulated swarm: the file a user writes, and the explicit events its seed makes of it."""
