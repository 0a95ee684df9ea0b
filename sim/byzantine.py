"""What a lying node says instead of what its core decided. Its core stays the production one: only its words change.

A free rider is the exception: what is false is already the result of its job, which costs it nothing.
"""

from __future__ import annotations

import math
from typing import assert_never

import numpy as np
from msgspec.structs import replace

from mdgan_edge.actors import Garbled
from mdgan_edge.messages import Feedback, Hello, Message, Task, TaskId, Tensor
from nodes.jobs import Trained
from sim.chance import draw, stream
from sim.machine import Machine
from sim.scenario.values import Byzantine, FeedbackLie
from sim.swap_lies import lies_in_swaps, with_false_spares

FLOOD = 5  # copies of each message
WRONG_TASK = TaskId(1 << 40)  # never given


def lies(machine: Machine, message: Message, seed: int) -> list[Message | Garbled]:
    """The messages that leave a machine with a behaviour, in place of `message`. `seed`: the world's."""
    behaviour = machine.behaviour
    assert behaviour is not None
    if not _now(machine, behaviour):
        return [message]
    match behaviour.how:
        case (
            "bad_steps"
            | "bad_moments"
            | "bad_digest"
            | "huge_hop"
            | "false_prepared"
            | "propose_again"
            | "give_nothing" as how
        ):
            return [*lies_in_swaps(machine, how, message)]
        case "false_spares":
            return [with_false_spares(message) if isinstance(message, Hello) else message]
        case how:
            return _lie(machine, behaviour, how, message, seed) if isinstance(message, Feedback) else [message]


def rides_free(machine: Machine) -> bool:
    """Whether a machine only pretends to do the training that begins now."""
    behaviour = machine.behaviour
    return behaviour is not None and behaviour.how == "free_ride" and _now(machine, behaviour)


def pretended(machine: Machine, task: Task, tasks: int, seed: int) -> Trained:
    """Noise as large as what the machine said last, for a task that it has not looked at."""
    before = machine.last_feedback
    like = replace(task.x_g, dtype="float32", norm=before.feedback.norm if before is not None else 1.0)
    return Trained(task, _noise(like, 1.0, seed, f"{machine.name} {task.task_id}"), 0.0, 0.0, 0.0, tasks)


def _now(machine: Machine, behaviour: Byzantine) -> bool:
    return draw(machine.compute_key, -1 - machine.jobs_done) < behaviour.chance


def _lie(
    machine: Machine, behaviour: Byzantine, how: FeedbackLie, said: Feedback, seed: int
) -> list[Message | Garbled]:
    own = f"{machine.name} {said.task_id}"
    match how:
        case "nan":
            return [replace(said, feedback=_scaled(said.feedback, math.nan))]
        case "sign_flip":
            return [replace(said, feedback=_scaled(said.feedback, -1.0))]
        case "scale":
            return [replace(said, feedback=_scaled(said.feedback, behaviour.factor))]
        case "noise":
            return [replace(said, feedback=_noise(said.feedback, behaviour.factor, seed, own))]
        case "collude":
            return [replace(said, feedback=_noise(said.feedback, behaviour.factor, seed, "collusion"))]
        case "free_ride":
            return [said]
        case "replay":
            return [said] if machine.last_feedback is None else [said, machine.last_feedback]
        case "misshapen":
            tensor = said.feedback
            half = Tensor(tensor.dtype, (1, *tensor.shape[1:]), tensor.data[: len(tensor.data) // tensor.shape[0]], 1.0)
            return [replace(said, feedback=half)]
        case "wrong_task":
            return [replace(said, task_id=WRONG_TASK)]
        case "flood":
            return [said] * FLOOD
        case "garble":
            return [Garbled(machine.connection.peer, "magic", "made up")]
        case _:
            assert_never(how)


def _scaled(tensor: Tensor, by: float) -> Tensor:
    norm = tensor.norm * abs(by)
    if not tensor.data:
        return Tensor(tensor.dtype, tensor.shape, b"", norm)
    values = np.frombuffer(tensor.data, np.float32) * np.float32(by)
    return Tensor(tensor.dtype, tensor.shape, values.tobytes(), norm)


def _noise(tensor: Tensor, factor: float, seed: int, key: str) -> Tensor:
    """Gaussian noise of `factor` times the norm that the truth has."""
    norm = tensor.norm * factor
    if not tensor.data:
        return Tensor(tensor.dtype, tensor.shape, b"", norm)
    rng = np.random.Generator(np.random.PCG64(stream(seed, "lie", key)))
    values = rng.standard_normal(math.prod(tensor.shape))
    values *= norm / max(float(np.linalg.norm(values)), 1e-30)
    return Tensor(tensor.dtype, tensor.shape, values.astype(np.float32).tobytes(), norm)
