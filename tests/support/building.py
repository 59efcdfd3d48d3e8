"""Policies as a run builds them, small, with their data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from offlinerlkit_romi.bench.ours import drawing
from offlinerlkit_romi.engine import Generators
from offlinerlkit_romi.experiment.build import build_policy
from offlinerlkit_romi.experiment.config import RunConfig
from offlinerlkit_romi.experiment.model_config import ModelBasedConfig
from offlinerlkit_romi.experiment.parts import Buffers, prepare
from offlinerlkit_romi.experiment.resolve import settle
from tests.experiment.conftest import TINY_SETTINGS, make_dataset


class Run(NamedTuple):
    """What a run trains, and on what."""

    config: RunConfig
    policy: Any
    buffers: Buffers
    generators: Generators


def build(algo: str, device: str = "cpu", **options: Any) -> Run:
    """A policy whose model has been fitted and rolled out once."""
    config = settle(algo, TINY_SETTINGS[algo] | {"device": device} | options).config
    place = torch.device(device)
    generators = Generators(0, place)
    setting, buffers = prepare(config, make_dataset(), place, generators)
    policy = build_policy(config, setting)
    policy.train()
    if isinstance(config, ModelBasedConfig):
        policy.dynamics.train(buffers.real.tensors(), max_epochs=1, batch_size=64)
    return Run(config, policy, buffers, generators)


def policy_updates(run: Run) -> Callable[[], Any]:
    """One policy update on a fresh batch per call."""
    real, fake = run.buffers.real, None
    if isinstance(run.config, ModelBasedConfig):
        fake = run.buffers.for_model.fake
        transitions, _ = run.policy.rollout(real.sample(16)["observations"], 2)
        fake.add_batch(**transitions)
    draw = drawing(run.config, real, fake)
    return lambda: run.policy.update(draw())
