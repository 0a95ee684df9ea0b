"""How a defect is planted, and the list of all planted defects with the invariant that has to see each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sim.invariants.names import INVARIANTS

Mutant = Callable[[], Any]

MUTANTS: dict[Mutant, str] = {}  # and the invariant that catches each


def caught_by(invariant: str) -> Callable[[Mutant], Mutant]:
    """Puts a mutant on the list."""
    assert invariant in INVARIANTS

    def listed(mutant: Mutant) -> Mutant:
        MUTANTS[mutant] = invariant
        return mutant

    return listed


@contextmanager
def broken(owner: Any, name: str, make: Callable[[Any], Any]) -> Iterator[None]:
    """While inside, `owner.name` is what `make` makes of the true one."""
    true = owner.__dict__[name]
    setattr(owner, name, make(true))
    try:
        yield
    finally:
        setattr(owner, name, true)


def always(value: Any) -> Callable[[Any], Any]:
    return lambda _: lambda *_args, **_named: value
