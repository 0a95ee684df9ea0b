"""Fidelity `toy`: the whole algorithm with tiny networks on a ring of eight Gaussians, in numpy."""
