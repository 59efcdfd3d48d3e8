"""Buffers of model transitions: one that a captured graph can fill, one in the host's memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from offlinerlkit_romi.buffer import FIELDS, ReplayBuffer
from offlinerlkit_romi.modules.common import ArrayLike

# a remainder of a draw from so many numbers is uniform to 1 in 10^11 for any buffer
DRAWS = 2**62


class MaskedReplayBuffer(ReplayBuffer):
    """Ring buffer that takes the rows of a mask, in fixed shapes and without a host sync.

    Its position lies on the device beside the rows, so that filling it and drawing from it can be
    captured. `len`, `tensors` and `state_dict` wait for the device; `sample` before the first row
    gives zeros. Same arguments as `ReplayBuffer`.

    Attributes:
        cursor: the next row to write and the number of rows, (2,) int64.
    """

    cursor: torch.Tensor

    def __len__(self) -> int:
        return self._position()[1]

    def add_batch(
        self,
        obss: ArrayLike,
        next_obss: ArrayLike,
        actions: ArrayLike,
        rewards: ArrayLike,
        terminals: ArrayLike,
        mask: torch.Tensor | None = None,
    ) -> None:
        """Append (n, S), (n, S), (n, A), (n, 1), (n, 1) rows; the oldest rows make room.

        Args:
            obss: observations, as all that follow up to `terminals`.
            next_obss: next observations.
            actions: actions.
            rewards: rewards.
            terminals: 1 where an episode ended.
            mask: which rows to take, (n, 1) bool; none means all.
        """
        n = len(obss)
        if mask is None:
            mask = torch.ones(n, 1, dtype=torch.bool, device=self.device)
        place, count = self._places(mask.view(n))
        columns = (obss, next_obss, actions, rewards, terminals)
        for name, column in zip(FIELDS, columns, strict=True):
            store = self._data[name]
            rows = torch.as_tensor(column).to(store).reshape(n, *store.shape[1:])
            store.index_copy_(0, place, rows)
        self.cursor[0].add_(count).remainder_(self._max_size)
        self.cursor[1].add_(count).clamp_(max=self._max_size)

    def load_dataset(self, dataset: Mapping[str, np.ndarray], *, share: bool = False) -> None:
        """Not for model transitions: a data set belongs into a `ReplayBuffer`."""
        raise NotImplementedError("a MaskedReplayBuffer takes add_batch alone")

    def sample(self, batch_size: int) -> dict[str, torch.Tensor]:
        """Rows drawn uniformly with replacement, on the device."""
        draw = torch.randint(DRAWS, (batch_size,), device=self.device, generator=self.generator)
        index = draw % self.cursor[1].clamp_min(1)
        return {name: self._data[name].index_select(0, index) for name in FIELDS}

    def _places(self, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The row that each of n rows goes to, the spare one where masked out, and their count."""
        rank = mask.cumsum(0)
        count = rank[-1]
        # of more rows than fit the newest stay
        kept = mask & (rank > count - self._max_size)
        place = (self.cursor[0] + rank - 1) % self._max_size
        return torch.where(kept, place, self._max_size), count

    def _allocate(self, width: Sequence[int]) -> torch.Tensor:
        """One row more than the capacity: rows outside a mask have to go somewhere."""
        return torch.zeros((self._max_size + 1, *width), device=self.device)

    def _begin(self) -> None:
        self.cursor = torch.zeros(2, dtype=torch.int64, device=self.device)

    def _position(self) -> tuple[int, int]:
        ptr, size = self.cursor.tolist()
        return ptr, size

    def _set_position(self, ptr: int, size: int) -> None:
        self.cursor.copy_(torch.tensor([ptr, size]))


class HostReplayBuffer(ReplayBuffer):
    """Ring buffer in the host's memory, pinned for CUDA; its batches are on the device.

    Indices are drawn on the host, so drawing waits for nothing; a batch is copied while the host
    goes on. Same arguments as `ReplayBuffer`, but for the generator, which is on the CPU.
    """

    def sample(self, batch_size: int) -> dict[str, torch.Tensor]:
        """Rows drawn uniformly with replacement, copied to the device."""
        index = torch.randint(len(self), (batch_size,), generator=self.generator)
        batch = {}
        for name in FIELDS:
            # pinned memory of its own per batch: torch gives it out again when it has been copied
            rows = self._pinned((batch_size, *self._data[name].shape[1:]), torch.empty)
            torch.index_select(self._data[name], 0, index, out=rows)
            batch[name] = rows.to(self.device, non_blocking=True)
        return batch

    def state_dict(self) -> dict[str, Any]:
        """Content, position and the state of its own draws, for a checkpoint."""
        state = super().state_dict()
        return state if self.generator is None else state | {"draws": self.generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state` was taken; see `ReplayBuffer.load_state_dict`."""
        super().load_state_dict(state)
        if self.generator is not None and "draws" in state:
            self.generator.set_state(state["draws"])

    def _allocate(self, width: Sequence[int]) -> torch.Tensor:
        return self._pinned((self._max_size, *width), torch.zeros)

    def _pinned(self, shape: Sequence[int], make: Any) -> torch.Tensor:
        made: torch.Tensor = make(shape, pin_memory=self.device.type == "cuda")
        return made
