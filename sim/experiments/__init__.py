"""Experiments: many runs of the virtual world that differ in what a file names, and what they say together."""
