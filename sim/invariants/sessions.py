"""Sessions, as they were seen on the wire: who was welcomed as what, and what became of those that are over.

Functions over the ledger: they write down what was said and tell what should not have been.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from broker.greeting import RunFacts
from mdgan_edge.actors import Effect, Received, Send
from mdgan_edge.messages import AssignedDiscriminator, ByeAck, Error, Feedback, Hello, NodeId, Task, Welcome
from sim.invariants.ledger import Given, Ledger
from sim.invariants.names import Found


def answered(ledger: Ledger, facts: RunFacts, event: Received, effects: Sequence[Effect]) -> Sequence[Found]:
    """The hub has handled something other than HELLO: if its session is over, it has to be told so."""
    node, session = event.sender.node, event.header.session
    if event.header.epoch == facts.epoch and ledger.sessions.get(node) == session:
        return ()
    answers = [one.message for one in effects if isinstance(one, Send) and one.to == event.sender]
    if any(isinstance(answer, Error | ByeAck) for answer in answers):
        return ()
    what = f"{type(event.message).__name__} of epoch {event.header.epoch}, session {session} was taken for valid"
    return [("dead_incarnations_silent", node, what)]


def greeted(ledger: Ledger, facts: RunFacts, node: NodeId, hello: Hello, effects: Sequence[Effect]) -> Iterator[Found]:
    """The hub has answered a HELLO."""
    welcomes = [one for one in effects if isinstance(one, Send) and isinstance(one.message, Welcome)]
    for effect in welcomes:
        assert isinstance(effect.message, Welcome)
        if effect.to.node == node:
            yield from _welcomed(ledger, facts, node, hello, effect.message.discriminator)
            ledger.sessions[node] = effect.header.session


def _welcomed(
    ledger: Ledger, facts: RunFacts, node: NodeId, hello: Hello, assigned: AssignedDiscriminator
) -> Iterator[Found]:
    before = ledger.incarnations.get(node)
    ledger.rejoined += before == hello.incarnation
    if before is not None and hello.incarnation < before:
        yield "current_incarnation", node, f"incarnation {hello.incarnation} was let in after {before}"
    ledger.incarnations[node], ledger.labels[node] = hello.incarnation, hello.labels
    ledger.left.discard(node)
    ledger.gone.pop(node, None)
    ledger.not_taken.pop(node, None)
    ledger.spares[node] = _beside(hello, assigned) if hello.run_id == facts.run_id else set()
    yield from _kept(ledger, facts, node, hello, assigned)
    ledger.assigned[node] = (assigned.discriminator_id, assigned.hop)
    owner = ledger.owners.setdefault(assigned.discriminator_id, node)
    if owner != node:
        yield "one_owner", node, f"{assigned.discriminator_id} is {owner}'s"


def _beside(hello: Hello, assigned: AssignedDiscriminator) -> set[str]:
    """What lies beside it from now on: if a spare takes the place of what it held, that is its only backup."""
    held = hello.discriminator
    spares: set[str] = {one.discriminator_id for one in hello.spares}
    if assigned.action != "install" or held is None or not (held.tasks or held.hop):
        return spares
    return {held.discriminator_id} | (spares & {assigned.discriminator_id})


def _kept(
    ledger: Ledger, facts: RunFacts, node: NodeId, hello: Hello, assigned: AssignedDiscriminator
) -> Iterator[Found]:
    mine = ledger.assigned.get(node)
    taken = (assigned.discriminator_id, assigned.hop) == mine and assigned.action != "init"
    if mine is None or hello.run_id != facts.run_id or taken:
        return
    for one in (*filter(None, [hello.discriminator]), *hello.spares):
        if (one.discriminator_id, one.hop) == mine and one.architecture == facts.architecture:
            what = f"it has {mine[0]}, hop {mine[1]}, and was told to {assigned.action} {assigned.discriminator_id}"
            yield "discriminator_kept", node, what


def admitted(ledger: Ledger, node: NodeId, feedback: Feedback) -> Sequence[Found]:
    """The hub takes a feedback."""
    name, mine = (feedback.discriminator_id, feedback.hop), ledger.assigned.get(node)
    if name == mine:
        return ()
    return [("owned_feedback", node, f"task {feedback.task_id} was answered by {name}, it owns {mine}")]


def given(ledger: Ledger, send: Send, task: Task) -> Iterator[Found]:
    """The hub sends a task."""
    node, session = send.to.node, ledger.sessions.get(send.to.node)
    if session is None or session != send.header.session:
        what = f"task {task.task_id} went to session {send.header.session}, the current one is {session}"
        yield "dead_incarnations_silent", node, what
        return
    if node in ledger.left:
        yield "no_work_after_leave", node, f"task {task.task_id} was sent to it"
    if task.version != ledger.version:
        what = f"task {task.task_id} is of version {task.version}, the hub is at {ledger.version}"
        yield "version_by_one", node, what
    said = ledger.labels[node]
    ledger.given[task.task_id] = Given(node, session, ledger.incarnations[node], task.version, said)
