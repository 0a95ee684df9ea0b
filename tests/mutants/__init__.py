"""Broken versions of the production cores and of the world, one defect each, and the invariant that has to see it."""

from tests.mutants import adoptions, hub, nodes, planting, swaps, tables, world
from tests.mutants.planting import MUTANTS, Mutant

__all__ = ["MUTANTS", "Mutant", "adoptions", "hub", "nodes", "planting", "swaps", "tables", "world"]
