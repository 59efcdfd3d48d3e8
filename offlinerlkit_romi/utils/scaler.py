"""Standardisation of inputs, in numpy and on the device."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.system.files import written_whole

FloatArray = NDArray[np.floating[Any]]
MIN_STD = 1e-12


class StandardScaler:
    """Subtracts a mean and divides by a standard deviation, column by column.

    The device copies that `transform_tensor` reads are made at its first call on a device and
    afterwards updated in place by every new fit, load or assignment, so a captured CUDA graph
    always reads the current statistics. Replace `mu` and `std`; do not write into them.

    Args:
        mu: Mean (S,) or (1, S).
        std: Standard deviation of the shape of `mu`.
    """

    def __init__(self, mu: FloatArray | None = None, std: FloatArray | None = None):
        self._mu, self._std = mu, std
        self._copies: dict[tuple[torch.device, torch.dtype], tuple[torch.Tensor, torch.Tensor]] = {}

    @property
    def mu(self) -> FloatArray | None:
        """Mean, None before the first fit."""
        return self._mu

    @mu.setter
    def mu(self, mu: FloatArray) -> None:
        self._set(mu, self._std)

    @property
    def std(self) -> FloatArray | None:
        """Standard deviation, None before the first fit."""
        return self._std

    @std.setter
    def std(self, std: FloatArray) -> None:
        self._set(self._mu, std)

    def fit(self, data: FloatArray | torch.Tensor) -> None:
        """Take mean and standard deviation over the rows of `data` (n, S); both become (1, S).

        Sums are float64 whatever the data's type: float32 sums over 10^6 rows lose three digits
        or more. A column that does not vary is divided by 1.
        """
        array = data.detach().cpu().numpy() if isinstance(data, torch.Tensor) else np.asarray(data)
        mu = array.mean(0, dtype=np.float64, keepdims=True)
        std = array.std(0, dtype=np.float64, keepdims=True)
        std[std < MIN_STD] = 1.0
        dtype = np.result_type(array.dtype, np.float32)
        self._set(mu.astype(dtype), std.astype(dtype))

    def transform(self, data: FloatArray) -> FloatArray:
        """Standardise `data` (..., S)."""
        mu, std = self._fitted()
        return (data - mu) / std

    def inverse_transform(self, data: FloatArray) -> FloatArray:
        """Undo `transform`."""
        mu, std = self._fitted()
        return std * data + mu

    def transform_tensor(self, data: torch.Tensor) -> torch.Tensor:
        """Standardise `data` (..., S) on its device and in its type, with its gradient."""
        mu, std = self._on(data.device, data.dtype)
        return (data - mu) / std

    def inverse_transform_tensor(self, data: torch.Tensor) -> torch.Tensor:
        """Undo `transform_tensor`."""
        mu, std = self._on(data.device, data.dtype)
        return data * std + mu

    def save_scaler(self, save_path: str | os.PathLike[str]) -> None:
        """Write ``mu.npy`` and ``std.npy`` into the folder `save_path`."""
        for name, values in zip(("mu", "std"), self._fitted(), strict=True):
            target = Path(save_path) / f"{name}.npy"
            with written_whole(target) as partial, partial.open("wb") as file:
                np.save(file, values)

    def load_scaler(self, load_path: str | os.PathLike[str]) -> None:
        """Read what `save_scaler` wrote, here or in the kit.

        Raises:
            UserError: A file is missing or unreadable; the scaler is then unchanged.
        """
        mu, std = (_read(Path(load_path) / f"{name}.npy") for name in ("mu", "std"))
        self._set(mu, std)

    def state_dict(self) -> dict[str, torch.Tensor | None]:
        """Mean and standard deviation for a checkpoint, None before the first fit."""
        pair = {"mu": self._mu, "std": self._std}
        return {name: None if x is None else torch.as_tensor(x) for name, x in pair.items()}

    def load_state_dict(self, state: Mapping[str, torch.Tensor | None]) -> None:
        """Continue with the statistics of `state_dict`."""
        mu, std = (None if state[n] is None else state[n].numpy() for n in ("mu", "std"))  # type: ignore[union-attr]
        self._set(mu, std)

    def _fitted(self) -> tuple[FloatArray, FloatArray]:
        if self._mu is None or self._std is None:
            raise UserError("the scaler has no statistics yet: call fit or load_scaler first")
        return self._mu, self._std

    def _on(self, device: torch.device, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        key = (device, dtype)
        if key not in self._copies:
            mu, std = self._fitted()
            # Made in inference mode they could never serve a gradient. torch.tensor copies: memory
            # shared with numpy would let an update write into `mu`.
            with torch.inference_mode(False):
                self._copies[key] = (
                    torch.tensor(mu, dtype=dtype, device=device),
                    torch.tensor(std, dtype=dtype, device=device),
                )
        return self._copies[key]

    def _set(self, mu: FloatArray | None, std: FloatArray | None) -> None:
        if not (_same_shape(mu, self._mu) and _same_shape(std, self._std)):
            self._copies.clear()
        self._mu, self._std = mu, std
        for mu_copy, std_copy in self._copies.values():
            mu_copy.copy_(torch.as_tensor(mu))
            std_copy.copy_(torch.as_tensor(std))


def _same_shape(new: FloatArray | None, old: FloatArray | None) -> bool:
    return new is not None and old is not None and np.shape(new) == np.shape(old)


def _read(path: Path) -> FloatArray:
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(
            f"cannot read the scaler's {path}: {error}; save_scaler writes this file"
        ) from error
