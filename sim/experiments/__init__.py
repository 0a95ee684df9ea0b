"""Experiments: many runs of the virtual world that differ in what an experiment file names, and what they say together."""
