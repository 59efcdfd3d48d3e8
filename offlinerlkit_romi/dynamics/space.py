"""What a dynamics model's observations and rewards are: its numbers mean nothing elsewhere."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.system.files import write_json
from offlinerlkit_romi.utils.scaler import StandardScaler

FILE = "space.json"  # beside dynamics.pth; the kit has none
# shares of a standard deviation, or of the rewards' scale, that count as the same
TOLERANCE = 1e-3


@dataclass(frozen=True)
class ModelSpace:
    """The maps from a task's transitions to those that a model was taught.

    Attributes:
        obs_mean: Subtracted from observations, (S,); None where they are raw.
        obs_std: What they are then divided by, (S,); None where they are raw.
        reward_scale: What rewards are multiplied by.
        reward_bias: What is then added to them.
    """

    obs_mean: tuple[float, ...] | None = None
    obs_std: tuple[float, ...] | None = None
    reward_scale: float = 1.0
    reward_bias: float = 0.0

    @classmethod
    def of(cls, scaler: StandardScaler | None, reward_map: tuple[float, float]) -> ModelSpace:
        """The space of observations that a scaler standardises, or of raw ones."""
        if scaler is None or scaler.mu is None or scaler.std is None:
            return cls(None, None, *reward_map)
        mean, std = (tuple(np.ravel(x).tolist()) for x in (scaler.mu, scaler.std))
        return cls(mean, std, *reward_map)

    def unlike(self, other: ModelSpace) -> str:
        """How a model of this space does not fit into another; "" where it does."""
        kinds = [f"{space.kind} observations" for space in (self, other)]
        if self.kind != other.kind:
            return f"it is of {kinds[0]}, here are {kinds[1]}"
        if not self._same_observations(other):
            return "its observations are standardised by another mean and std than here"
        if not self._same_rewards(other):
            rewards = [f"{s.reward_scale:g} r {s.reward_bias:+g}" for s in (self, other)]
            return f"its rewards are {rewards[0]}, here they are {rewards[1]}"
        return ""

    @property
    def kind(self) -> str:
        """Of its observations."""
        return "raw" if self.obs_mean is None else "standardised"

    def _same_observations(self, other: ModelSpace) -> bool:
        if self.obs_mean is None or other.obs_mean is None:
            return self.obs_mean is other.obs_mean
        mean, std = np.array([self.obs_mean, self.obs_std])
        other_mean, other_std = np.array([other.obs_mean, other.obs_std])
        return mean.shape == other_mean.shape and bool(
            (np.abs([mean - other_mean, std - other_std]) <= TOLERANCE * other_std).all()
        )

    def _same_rewards(self, other: ModelSpace) -> bool:
        gaps = self.reward_scale - other.reward_scale, self.reward_bias - other.reward_bias
        return max(map(abs, gaps)) <= TOLERANCE * abs(other.reward_scale)


def write_space(folder: str | Path, space: ModelSpace | None) -> None:
    """Say in a folder what its model is of; where nobody knows, take away what was said before."""
    path = Path(folder) / FILE
    if space is None:
        path.unlink(missing_ok=True)
    else:
        write_json(path, asdict(space))


def read_space(folder: str | Path) -> ModelSpace | None:
    """What a folder's model is of; None where it does not say, as the kit's do not.

    Raises:
        UserError: The file is damaged.
    """
    path = Path(folder) / FILE
    if not path.is_file():
        return None
    try:
        told = json.loads(path.read_text("utf-8"))
        mean, std = (_floats(told[name]) for name in ("obs_mean", "obs_std"))
        return ModelSpace(mean, std, float(told["reward_scale"]), float(told["reward_bias"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error!r}): fit the model again") from error


def _floats(values: list[float] | None) -> tuple[float, ...] | None:
    return None if values is None else tuple(map(float, values))
