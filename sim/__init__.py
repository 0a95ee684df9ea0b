"""Swarms on one machine, and the proof that they compute what the paper says."""
