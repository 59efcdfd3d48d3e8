"""Replay buffer that lives on the device and draws its indices there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from offlinerlkit_romi.engine import afresh
from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.modules.common import ArrayLike

FIELDS = ("observations", "next_observations", "actions", "rewards", "terminals")


class ReplayBuffer:
    """Ring buffer of transitions as float32 tensors.

    Args:
        buffer_size: capacity in transitions.
        obs_shape: (S,).
        obs_dtype: kept for the kit's signature; storage is float32.
        action_dim: A.
        action_dtype: kept for the kit's signature; storage is float32.
        device: where the transitions live.
        generator: source of the drawn indices, on the same device; none means torch's global one.

    Differences from the kit: tensors instead of numpy arrays, and a batch larger than the capacity
    keeps its newest rows in order instead of overwriting itself.
    """

    _ptr: int
    _size: int

    def __init__(
        self,
        buffer_size: int,
        obs_shape: Sequence[int],
        obs_dtype: Any = np.float32,
        action_dim: int = 1,
        action_dtype: Any = np.float32,
        device: str | torch.device = "cpu",
        generator: torch.Generator | None = None,
    ) -> None:
        self.device = torch.device(device)
        self.generator = generator
        self._max_size = int(buffer_size)
        self._begin()
        widths = {"observations": obs_shape, "next_observations": obs_shape}
        widths.update(actions=(action_dim,), rewards=(1,), terminals=(1,))
        self._widths = {name: tuple(widths[name]) for name in FIELDS}
        self._stored: dict[str, torch.Tensor] | None = None
        self._borrowed = False

    @property
    def _data(self) -> dict[str, torch.Tensor]:
        """The storage, made when it is first asked for: a model's fit before it needs the room."""
        if self._stored is None:
            self._stored = {name: self._allocate(self._widths[name]) for name in FIELDS}
        return self._stored

    @_data.setter
    def _data(self, data: dict[str, torch.Tensor]) -> None:
        self._stored = data

    def __len__(self) -> int:
        return self._size

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {self._widths[name]}" for name in FIELDS)
        kind = type(self).__name__
        return f"{kind}({len(self)} of {self._max_size} rows on {self.device}: {shapes})"

    def add(
        self,
        obs: ArrayLike,
        next_obs: ArrayLike,
        action: ArrayLike,
        reward: ArrayLike,
        terminal: ArrayLike,
    ) -> None:
        """Append one transition."""
        rows = [
            torch.as_tensor(x, dtype=torch.float32).reshape(1, -1)
            for x in (obs, next_obs, action, reward, terminal)
        ]
        self.add_batch(*rows)

    def add_batch(
        self,
        obss: ArrayLike,
        next_obss: ArrayLike,
        actions: ArrayLike,
        rewards: ArrayLike,
        terminals: ArrayLike,
    ) -> None:
        """Append (n, S), (n, S), (n, A), (n, 1), (n, 1) rows; the oldest rows make room."""
        columns = (obss, next_obss, actions, rewards, terminals)
        if self._borrowed:
            self._data = {name: column.clone() for name, column in self._data.items()}
            self._borrowed = False
        n = len(obss)
        kept = min(n, self._max_size)
        start = (self._ptr + n - kept) % self._max_size
        first = min(kept, self._max_size - start)
        for name, column in zip(FIELDS, columns, strict=True):
            store = self._data[name]
            rows = torch.as_tensor(column).to(store).reshape(n, *store.shape[1:])[n - kept :]
            store[start : start + first] = rows[:first]
            store[: kept - first] = rows[first:]
        self._ptr = (self._ptr + n) % self._max_size
        self._size = min(self._size + n, self._max_size)

    def load_dataset(self, dataset: Mapping[str, np.ndarray], *, share: bool = False) -> None:
        """Replace the content by a dataset in the kit's keys; the capacity becomes its length.

        Args:
            dataset: the arrays.
            share: on the CPU read float32 arrays where they are, until a row is added. Without it
                a copy is made at once.
        """
        n = len(dataset["observations"])
        # a copy: the ring writes into its storage, never into the caller's arrays
        copy = not (share and all(dataset[name].flags.writeable for name in FIELDS))
        self._data = {
            name: torch.as_tensor(dataset[name])
            .to(self.device, torch.float32, copy=copy)
            .reshape(n, *self._widths[name])
            for name in FIELDS
        }
        self._borrowed = not copy
        self._ptr = 0
        self._size = self._max_size = n

    def normalize_obs(self, eps: float = 1e-3) -> tuple[np.ndarray, np.ndarray]:
        """Standardise observations and next observations by the observations' mean and std + eps.

        Returns:
            Mean and std + eps, numpy float32, both (1, S).
        """
        obs = self._data["observations"][: self._size]
        # float64: a float32 sum over millions of rows loses digits
        mean = obs.mean(0, keepdim=True, dtype=torch.float64)
        variance = (obs - mean.float()).square().mean(0, keepdim=True, dtype=torch.float64)
        mean, std = mean.float(), (variance.sqrt() + eps).float()
        for name in ("observations", "next_observations"):
            # out of place: what `tensors` handed out before stays what it was
            self._data[name] = (self._data[name] - mean) / std
        return mean.cpu().numpy(), std.cpu().numpy()

    def sample(self, batch_size: int) -> dict[str, torch.Tensor]:
        """Rows drawn uniformly with replacement, on the device."""
        return afresh(partial(self._draw, batch_size))

    def sample_all(self) -> dict[str, np.ndarray]:
        """Copies of all rows as numpy arrays."""
        return {name: x.cpu().numpy().copy() for name, x in self.tensors().items()}

    def tensors(self) -> dict[str, torch.Tensor]:
        """All rows as views of the storage; not to be written to."""
        size = len(self)
        return {name: self._data[name][:size] for name in FIELDS}

    def state_dict(self) -> dict[str, Any]:
        """Content and position, for a checkpoint."""
        ptr, size = self._position()
        position = {"capacity": self._max_size, "ptr": ptr, "size": size}
        data = self.tensors()
        if size < self._max_size:
            # torch.save writes the whole storage behind a view
            data = {name: rows.clone() for name, rows in data.items()}
        return {**position, "data": data}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state` was taken.

        Raises:
            UserError: the state is of a buffer of another capacity.
        """
        if state["capacity"] != self._max_size:
            raise UserError(
                f"the saved replay buffer holds up to {state['capacity']} transitions and this one "
                f"{self._max_size}: restore it into a buffer of its own capacity"
            )
        ptr, size = int(state["ptr"]), int(state["size"])
        self._set_position(ptr, size)
        for name in FIELDS:
            self._data[name][:size] = state["data"][name]

    def _draw(self, batch_size: int) -> dict[str, torch.Tensor]:
        index = torch.randint(
            self._size, (batch_size,), device=self.device, generator=self.generator
        )
        return {name: self._data[name].index_select(0, index) for name in FIELDS}

    def _allocate(self, width: Sequence[int]) -> torch.Tensor:
        """Room for one field, (capacity, *width)."""
        return torch.zeros((self._max_size, *width), device=self.device)

    def _begin(self) -> None:
        """Stand at the first row, with none there."""
        self._set_position(0, 0)

    def _position(self) -> tuple[int, int]:
        """The next row to write, and how many there are."""
        return self._ptr, self._size

    def _set_position(self, ptr: int, size: int) -> None:
        self._ptr, self._size = ptr, size


class RowSubset:
    """Some rows of a buffer, by number: no copy of millions of rows where a few are left out.

    Args:
        buffer: whose rows.
        rows: their numbers, (n,) int64, ascending.
    """

    def __init__(self, buffer: ReplayBuffer, rows: torch.Tensor) -> None:
        self._buffer, self._rows = buffer, rows

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def generator(self) -> torch.Generator | None:
        """Source of the drawn indices: the buffer's own."""
        return self._buffer.generator

    def sample(self, batch_size: int) -> dict[str, torch.Tensor]:
        """Rows drawn uniformly with replacement, on the device."""
        return afresh(partial(self._draw, batch_size))

    def sample_all(self) -> dict[str, np.ndarray]:
        """Copies of all rows as numpy arrays."""
        return {name: x.cpu().numpy() for name, x in self.tensors().items()}

    def tensors(self) -> dict[str, torch.Tensor]:
        """Copies of all rows."""
        return {n: x.index_select(0, self._rows) for n, x in self._buffer.tensors().items()}

    def _draw(self, batch_size: int) -> dict[str, torch.Tensor]:
        draw = torch.randint(
            len(self), (batch_size,), device=self._rows.device, generator=self.generator
        )
        index = self._rows.index_select(0, draw)
        return {name: x.index_select(0, index) for name, x in self._buffer.tensors().items()}
