"""An algorithm of somebody's own, which the package knows nothing of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from offlinerlkit_romi.algorithms import Parts, Positive, RunConfig
from offlinerlkit_romi.policy import BCPolicy


class ScaledPolicy(BCPolicy):
    """Behaviour cloning of the data's actions times a factor."""

    def __init__(self, *args: Any, factor: float, **options: Any) -> None:
        super().__init__(*args, **options)
        self.factor = factor

    def update(self, batch: Any) -> Any:
        return super().update({**batch, "actions": batch["actions"] * self.factor})


@dataclass(frozen=True)
class OwnConfig(RunConfig):
    """Cloning of scaled actions.

    Nobody's paper.
    """

    presets_file = "own_algorithm.yaml"

    factor: Positive = 1.0
    """What the data's actions are multiplied by."""

    def build(self, parts: Parts) -> ScaledPolicy:
        actor = parts.deterministic_actor()
        optim = parts.adam(actor, self.actor_lr)
        return ScaledPolicy(actor, optim, factor=self.factor, generator=parts.generator)
