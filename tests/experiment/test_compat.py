"""`--compat` is where it changes something, and reaches the policy and the model's rule."""

from dataclasses import fields

import numpy as np
import pytest
import torch

from offlinerlkit_romi.engine import Generators
from offlinerlkit_romi.experiment.algorithms import ALGORITHMS
from offlinerlkit_romi.experiment.build import Parts, Setting
from offlinerlkit_romi.experiment.command_line import parse
from offlinerlkit_romi.experiment.config import Compat, KitConfig
from offlinerlkit_romi.experiment.resolve import preset_names, settle
from tests.experiment.conftest import TINY_SETTINGS

KNOWN = ("rambo", "mopo", "combo", "mobile", "rombrl", "cql")
HOPPER = "hopper-medium-v2"


def build(algo: str, compat: Compat) -> tuple[object, list[str]]:
    """The policy of a tiny configuration, and the `compat` its constructor was given."""
    seen: list[str] = []

    class Spied(Parts):
        def policy(self, name, *args, **arguments):
            seen.append(arguments.get("compat", "not given"))
            return super().policy(name, *args, **arguments)

    config = settle(algo, TINY_SETTINGS[algo] | {"task": HOPPER, "compat": compat}).config
    device = torch.device("cpu")
    return config.build(Spied(config, Setting(11, 3, device, Generators(0, device)))), seen


@pytest.mark.parametrize("compat", ["paper", "kit"])
@pytest.mark.parametrize("algo", KNOWN)
def test_the_policy_is_told(algo, compat) -> None:
    assert build(algo, compat)[1] == [compat]


def test_only_algorithms_that_compute_otherwise_than_the_kit_have_the_switch() -> None:
    having = {a for a, kind in ALGORITHMS.items() if "compat" in {f.name for f in fields(kind)}}
    assert having == set(KNOWN)
    assert all(issubclass(ALGORITHMS[algo], KitConfig) for algo in KNOWN)


@pytest.mark.parametrize("algo", KNOWN)
def test_help_shows_it_and_the_kits_preset_sets_it(algo, capsys) -> None:
    with pytest.raises(SystemExit):
        parse(algo, ["--help"])
    assert "--compat {paper,kit}" in capsys.readouterr().out
    assert settle(algo, {"task": HOPPER}).config.compat == "paper"
    preset = "release" if algo == "rombrl" else "kit"  # which the kit does not have
    assert preset in preset_names(algo)
    assert settle(algo, {"task": HOPPER, "preset": preset}).config.compat == "kit"


@pytest.mark.parametrize("algo", ["mopo", "combo", "rambo", "mobile", "rombrl"])
def test_model_rollouts_end_by_the_rule_of_its_choice(algo) -> None:
    """A velocity of -200: the kit's Hopper has no lower bound."""
    state = np.zeros((1, 11), np.float32)
    state[:, 0], state[:, 5] = 1.25, -200.0
    for compat, ended in (("paper", True), ("kit", False)):
        policy, _ = build(algo, compat)
        assert policy.dynamics.terminal_fn(state, None, state).item() is ended
