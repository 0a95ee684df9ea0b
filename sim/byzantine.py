"""What a lying node says instead of what its core decided. Its core stays the production one: only its words change."""

from __future__ import annotations

import math
from typing import assert_never

import numpy as np
from msgspec.structs import replace

from mdgan_edge.actors import Garbled
from mdgan_edge.messages import Feedback, Message, TaskId, Tensor
from sim.chance import draw, stream
from sim.machine import Machine
from sim.scenario.values import Byzantine

FLOOD = 5  # copies of each message
WRONG_TASK = TaskId(1 << 40)  # never given


def lies(machine: Machine, message: Message) -> list[Message | Garbled]:
    """The messages that leave a machine with a behaviour, in place of `message`."""
    behaviour = machine.behaviour
    assert behaviour is not None
    if not isinstance(message, Feedback) or draw(machine.compute_key, -1 - machine.jobs_done) >= behaviour.chance:
        return [message]
    return _lie(machine, behaviour, message)


def _lie(machine: Machine, behaviour: Byzantine, said: Feedback) -> list[Message | Garbled]:
    match behaviour.how:
        case "nan":
            return [replace(said, feedback=_scaled(said.feedback, math.nan))]
        case "sign_flip":
            return [replace(said, feedback=_scaled(said.feedback, -1.0))]
        case "scale":
            return [replace(said, feedback=_scaled(said.feedback, behaviour.factor))]
        case "noise":
            return [replace(said, feedback=_noise(said.feedback, behaviour.factor, f"{machine.name} {said.task_id}"))]
        case "collude":
            return [replace(said, feedback=_noise(said.feedback, behaviour.factor, "collusion"))]
        case "free_ride":
            return [replace(said, feedback=_noise(said.feedback, 1.0, f"{machine.name} {said.task_id}"))]
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
            assert_never(behaviour.how)


def _scaled(tensor: Tensor, by: float) -> Tensor:
    norm = tensor.norm * abs(by)
    if not tensor.data:
        return Tensor(tensor.dtype, tensor.shape, b"", norm)
    values = np.frombuffer(tensor.data, np.float32) * np.float32(by)
    return Tensor(tensor.dtype, tensor.shape, values.tobytes(), norm)


def _noise(tensor: Tensor, factor: float, key: str) -> Tensor:
    """Gaussian noise of `factor` times the norm that the truth has."""
    norm = tensor.norm * factor
    if not tensor.data:
        return Tensor(tensor.dtype, tensor.shape, b"", norm)
    rng = np.random.Generator(np.random.PCG64(stream(0, "lie", key)))
    values = rng.standard_normal(math.prod(tensor.shape))
    values *= norm / max(float(np.linalg.norm(values)), 1e-30)
    return Tensor(tensor.dtype, tensor.shape, values.astype(np.float32).tobytes(), norm)
