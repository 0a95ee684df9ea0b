"""Between torch and the wire's Tensor: one copy each way, so that nobody trains on a received buffer."""

from __future__ import annotations

import numpy as np
import torch

from mdgan_edge.messages import Tensor


def to_wire(tensor: torch.Tensor) -> Tensor:
    """A float32 or int64 tensor as bytes, with its L2 norm (nan if not finite) if it is float32."""
    array = tensor.detach().cpu().contiguous().numpy()
    match array.dtype:
        case np.float32:
            norm = float(np.linalg.norm(array.astype(np.float64)))
            return Tensor("float32", array.shape, array.tobytes(), norm if np.isfinite(norm) else float("nan"))
        case np.int64:
            return Tensor("int64", array.shape, array.tobytes())
        case other:
            raise AssertionError(f"{other} does not travel")


def to_torch(tensor: Tensor) -> torch.Tensor:
    """A tensor of torch's own memory with these values."""
    array = np.frombuffer(tensor.data, dtype=np.dtype(tensor.dtype).newbyteorder("<"))
    return torch.from_numpy(array.reshape(tensor.shape).astype(tensor.dtype, copy=True))
