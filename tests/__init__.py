"""The tests; each is a sentence."""
