"""What a run needs of the device's memory, told before it starts, and where it puts the rest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from offlinerlkit_romi.engine import capture, count_bytes
from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.experiment.build import Setting
from offlinerlkit_romi.experiment.config import RunConfig

FLOAT = 4  # bytes
# tensors of a layer's size that are alive at once, with a backward pass and without: estimates
LIVE_BACKWARD, LIVE_FORWARD = 8, 4
# left free for kernels, libraries' workspaces and fragmentation
RESERVE = 500_000_000
# in what torch says where memory is short, and where a size is too large for a number
SHORT = ("allocate", "overflow")


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes by what they are for.

    Attributes:
        data: The data set on the device.
        model_buffer: Model transitions when the buffer is full; 0 without a model.
        networks: Networks, optimisers and whatever else training mutates.
        working: Activations of the largest step, which graphs keep; an estimate.
        place: Where the model buffer is: "device" or "host".
        free: What the device had free before the run; None where nobody counts it.
    """

    data: int
    model_buffer: int
    networks: int
    working: int
    place: str = "device"
    free: int | None = None

    @property
    def device_total(self) -> int:
        """Bytes on the device."""
        own = self.model_buffer if self.place == "device" else 0
        return self.data + own + self.networks + self.working

    def __str__(self) -> str:
        parts = [f"data {_gigabytes(self.data)}"]
        if self.model_buffer:
            where = "" if self.place == "device" else ", in the host's pinned memory"
            parts.append(f"model buffer {_gigabytes(self.model_buffer)} when full{where}")
        parts += [
            f"networks and optimisers {_gigabytes(self.networks)}",
            f"steps about {_gigabytes(self.working)}",
        ]
        free = "" if self.free is None else f" of {_gigabytes(self.free)} free"
        return f"memory: {'; '.join(parts)}; together {_gigabytes(self.device_total)}{free}"


@contextmanager
def told_if_short() -> Iterator[None]:
    """Say in one line that memory does not suffice.

    Raises:
        UserError: It does not.
    """
    try:
        yield
    except (MemoryError, RuntimeError, TypeError) as error:
        if not isinstance(error, MemoryError) and not any(x in str(error).lower() for x in SHORT):
            raise
        raise UserError(
            "this run needs more memory than there is: lower the batch sizes, widths, members, "
            "or --rollout-batch-size, --rollout-length and --model-retain-epochs"
        ) from error


def free_bytes(device: torch.device) -> int | None:
    """Free memory of a CUDA device; None elsewhere."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None


def transition_bytes(setting: Setting, rows: int) -> int:
    """Size of so many float32 transitions."""
    return rows * (2 * setting.obs_dim + setting.action_dim + 2) * FLOAT


def working_bytes(config: RunConfig, setting: Setting) -> int:
    """About what the largest step of a run has alive at once."""
    largest = config.rows_at_once * max(config.hidden_dims) * LIVE_BACKWARD * FLOAT
    model = config.model
    if model is not None:
        width = max(model.dynamics_hidden_dims)
        layers = len(model.dynamics_hidden_dims) + 1
        batch = model.dynamics_batch_size
        if model.adaptation is not None:
            batch = max(batch, model.adaptation.rows_per_update)
        update = model.n_ensemble * batch * width * layers * LIVE_BACKWARD * FLOAT
        members = model.n_ensemble if config.penalised else 1
        rollout = model.rollout_batch_size * width * members * LIVE_FORWARD * FLOAT
        # its transitions step by step, and put together
        made = 2 * transition_bytes(setting, model.rollout_batch_size * model.rollout_length)
        largest = max(largest, update, rollout + made)
    return largest


def choose_place(wish: str, needed: int, taken: int, free: int | None) -> str:
    """Where the model buffer goes: "device" or "host".

    Args:
        wish: `auto` takes the device if everything fits there.
        needed: The buffer's bytes.
        taken: What else will be on the device.
        free: The device's free bytes; None on the CPU, whose memory is the host's.

    Raises:
        UserError: Not even the rest fits.
    """
    if free is None:
        return "device"
    if taken + RESERVE > free:
        raise UserError(
            f"the data and the steps need {_gigabytes(taken + RESERVE)} and the device has "
            f"{_gigabytes(free)} free: use --device cpu, or free the device"
        )
    if wish != "auto":
        return wish
    return "device" if taken + needed + RESERVE <= free else "host"


def networks_bytes(policy: Any) -> int:
    """Bytes of all that training mutates; optimisers count twice their parameters."""
    state = policy.training_state()
    moments = sum(
        2 * count_bytes(group["params"])
        for part in state.values()
        if isinstance(part, torch.optim.Optimizer)
        for group in part.param_groups
    )
    others = {k: v for k, v in state.items() if not isinstance(v, torch.optim.Optimizer)}
    return count_bytes(capture(others)) + moments


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB"
