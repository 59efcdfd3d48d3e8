"""Behaviour cloning with a deterministic actor: what it can be told, and how it is put together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from offlinerlkit_romi.experiment.config import RunConfig

if TYPE_CHECKING:
    from offlinerlkit_romi.experiment.build import Parts


@dataclass(frozen=True)
class BCConfig(RunConfig):
    """Behaviour cloning with a deterministic actor."""

    def build(self, parts: Parts) -> Any:
        """The policy with all it is made of."""
        actor = parts.deterministic_actor()
        optim = parts.adam(actor, self.actor_lr)
        return parts.policy("BCPolicy", actor, optim, generator=parts.generator)
