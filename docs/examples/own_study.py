"""A study of one's own: an algorithm, a run that ends early, its curve, a comparison, an export."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from offlinerlkit_romi import (
    Callback,
    StopTraining,
    export,
    load_run,
    load_runs,
    register_algorithm,
    train,
)
from offlinerlkit_romi.algorithms import Parts, Positive, RunConfig
from offlinerlkit_romi.cli import main as offlinerlkit_romi
from offlinerlkit_romi.policy import BCPolicy


class HuberPolicy(BCPolicy):
    """Behaviour cloning that outliers among the actions pull at less."""

    def __init__(self, *args: Any, delta: float, **options: Any) -> None:
        super().__init__(*args, **options)
        self.delta = delta

    def update(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """One step of the actor."""
        actions = self.actor(batch["observations"])
        loss = torch.nn.functional.huber_loss(actions, batch["actions"], delta=self.delta)
        self.actor_optim.zero_grad()
        torch.autograd.backward(loss)
        self.actor_optim.step()
        return {"loss/actor": loss.detach()}


@dataclass(frozen=True)
class HuberConfig(RunConfig):
    """Behaviour cloning with Huber's loss."""

    delta: Positive = 0.1
    """Error beyond which the loss is linear."""

    def build(self, parts: Parts) -> HuberPolicy:
        """The policy with all it is made of."""
        actor = parts.deterministic_actor()
        optim = parts.adam(actor, self.actor_lr)
        return HuberPolicy(actor, optim, delta=self.delta, generator=parts.generator)


class Settled(Callback):
    """Ends a run whose loss has hardly fallen since the epoch before."""

    def __init__(self, least: float) -> None:
        self.least, self.last = least, float("inf")

    def on_epoch(self, epoch: int, metrics: Mapping[str, float], policy: Any) -> None:
        """Compare with the epoch before."""
        loss = metrics["loss/actor"]
        if self.last - loss < self.least * loss:
            raise StopTraining(f"the loss settled at {loss:.3g}")
        self.last = loss


def main() -> None:
    """A study in a minute: much too short for its scores to mean anything."""
    register_algorithm("huber_bc", HuberConfig)
    settings: dict[str, Any] = {
        **{"task": "hopper-medium-v2", "data": "generated", "transitions": 5000, "quiet": True},
        **{"epoch": 30, "step_per_epoch": 100, "eval_episodes": 2, "hidden_dims": (64, 64)},
    }
    mine = train("huber_bc", callbacks=[Settled(0.1)], actor_lr=1e-3, **settings)
    theirs = train("td3bc", **settings | {"epoch": 5})
    print(f"{mine.algo}: {mine.steps} updates, {mine.stopped}")
    print(load_run(mine.run_dir).curve[["timestep", "loss/actor"]].to_string(index=False))
    curves = load_runs([mine.run_dir, theirs.run_dir])
    print(curves.groupby("label")["eval/normalized_episode_reward"].last())
    offlinerlkit_romi(["compare", "--runs", mine.run_dir, theirs.run_dir, "--out", "comparison"])
    print(f"exported: {export(mine.run_dir)}")


if __name__ == "__main__":
    main()
