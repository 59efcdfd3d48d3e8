"""Networks of one's own: functions of (S, A), which other processes find by their import path."""

import subprocess
import sys
from dataclasses import fields
from functools import partial
from pathlib import Path

import pytest
import torch

from offlinerlkit_romi import cli, load_policy, train
from offlinerlkit_romi.errors import TrainingInterrupted, UserError
from offlinerlkit_romi.experiment.algorithms import ALGORITHMS
from offlinerlkit_romi.experiment.folder import RunFolder
from offlinerlkit_romi.experiment.model_config import ModelBasedConfig
from tests.experiment import own_networks as own
from tests.experiment.conftest import TINY_SETTINGS
from tests.support.comparing import differences, outcome
from tests.support.stopping import at_update, terminate

MODULE = "tests.experiment.own_networks"
ROOT = Path(__file__).parents[2]
ACTORS = {"bc": own.deterministic_actor, "td3bc": own.deterministic_actor, "iql": own.bounded_actor}
CRITICS = {"edac": own.fifty_critics, "rorl": own.fifty_critics}
WITH_CRITIC = [a for a in ALGORITHMS if "critic" in {f.name for f in fields(ALGORITHMS[a])}]
WITH_MODEL = [a for a, kind in ALGORITHMS.items() if issubclass(kind, ModelBasedConfig)]
FOUR = {
    "actor": own.soft_actor,
    "critic": own.critic,
    "dynamics": own.ensemble,
    "weighting_net": own.weighting_net,
}


def run(tmp_path, algo, **values):
    return train(algo, **TINY_SETTINGS[algo] | {"log_root": str(tmp_path / "log")} | values)


def backbones(policy):
    return [part for part in policy.modules() if isinstance(part, own.Sine)]


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_every_algorithm_takes_an_actor_and_critics(algo, tiny_data, tmp_path):
    told = {"actor": ACTORS.get(algo, own.soft_actor)}
    if algo in WITH_CRITIC:
        told["critic"] = CRITICS.get(algo, own.critic)
        told |= {"num_critics": 50} if algo == "rorl" else {}
    done = run(tmp_path, algo, epoch=1, **told)
    policy = load_policy(done.run_dir)
    assert isinstance(policy.actor.backbone, own.Sine)
    assert len(backbones(policy)) > 1 or algo in ("bc", *CRITICS)
    config = RunFolder(done.run_dir).resolved.config
    assert config.actor == f"{MODULE}:{told['actor'].__name__}"


def test_each_network_is_initialised_by_its_own_name(tiny_data, tmp_path):
    policy = load_policy(run(tmp_path, "mopo", epoch=1, critic=own.critic, critic_lr=1e-12).run_dir)
    first, second = (net.backbone.first.weight for net in (policy.critic1, policy.critic2))
    assert not torch.allclose(first, second, atol=1e-3)
    again = load_policy(run(tmp_path, "mopo", epoch=1, critic=own.critic, critic_lr=1e-12).run_dir)
    assert torch.equal(again.critic1.backbone.first.weight, first)


@pytest.mark.parametrize("algo", [a for a in WITH_MODEL if a != "count_morl"])
def test_every_algorithm_with_a_model_takes_an_ensemble(algo, tiny_data, tmp_path):
    policy = load_policy(run(tmp_path, algo, epoch=1, dynamics=own.ensemble).run_dir)
    assert isinstance(policy.dynamics.model.activation, torch.nn.Tanh)


@pytest.mark.parametrize("algo, critic", [("iql", own.level_critic), ("rorl", own.level_critics)])
def test_a_network_of_ones_own_starts_as_it_was_made(algo, critic, tiny_data, tmp_path):
    rate = {"iql": {"critic_q_lr": 1e-12}, "rorl": {"critic_lr": 1e-12}}[algo]
    policy = load_policy(run(tmp_path, algo, epoch=1, critic=critic, **rate).run_dir)
    net = policy.critic_q1 if algo == "iql" else policy.critics
    assert all(torch.allclose(p, torch.full_like(p, 0.5)) for p in net.parameters())


def test_romi_takes_four_parts_and_goes_on_with_them(tiny_data, tmp_path):
    whole = run(tmp_path, "romi", **FOUR)
    policy = load_policy(whole.run_dir)
    assert isinstance(policy.weighting_net, own.SineWeights)
    assert isinstance(policy.dynamics.model.activation, torch.nn.Tanh)
    with at_update(5, terminate), pytest.raises(TrainingInterrupted):
        run(tmp_path, "romi", **FOUR, log_root=str(tmp_path / "other"))
    (folder,) = tmp_path.glob("other/*/*/seed_*")
    train("romi", resume=str(folder))
    assert not differences(outcome(whole.run_dir), outcome(folder))


def test_another_process_finds_them(tiny_data, tmp_path):
    folder = run(tmp_path, "td3bc", epoch=1, actor=own.deterministic_actor).run_dir
    program = f"from offlinerlkit_romi import load_policy; print(load_policy({folder!r}).actor)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert "Sine(" in done.stdout, done.stderr


def test_the_command_line_takes_import_paths(tiny_data, tmp_path):
    words = ["--actor", f"{MODULE}:deterministic_actor", "--hidden-dims", "8", "--epoch", "1"]
    words += ["--step-per-epoch", "2", "--eval-episodes", "0", "--log-root", str(tmp_path)]
    assert cli.main(["train", "bc", *words]) == 0
    (folder,) = tmp_path.glob("*/bc*/seed_*")
    assert isinstance(load_policy(folder).actor.backbone, own.Sine)


def test_no_cached_fit_takes_an_own_ensembles_place(tiny_data, tmp_path):
    run(tmp_path, "mopo", epoch=1, dynamics=own.ensemble)
    assert not (tmp_path / "log" / ".dynamics").exists()


def of_a_script(obs_dim, action_dim):
    """As if it were defined in the script that is run."""


of_a_script.__module__ = "__main__"


@pytest.mark.parametrize(
    "algo, told, message",
    [
        ("bc", {"critic": own.critic}, "unknown bc setting 'critic'"),
        ("mopo", {"weighting_net": own.weighting_net}, "unknown mopo setting 'weighting_net'"),
        ("td3bc", {"dynamics": own.ensemble}, "unknown td3bc setting 'dynamics'"),
        ("count_morl", {"dynamics": own.ensemble}, "Count-MORL's hash looks into its own"),
        ("bc", {"actor": lambda s, a: None}, "has no import path"),
        ("bc", {"actor": of_a_script}, "in a module, not in the script"),
        ("bc", {"actor": partial(own.deterministic_actor)}, "has no import path"),
        ("bc", {"actor": "sine"}, "--actor is sine: it must be module:function of"),
        ("bc", {"actor": f"{MODULE}:nothing"}, "cannot be imported"),
        ("bc", {"actor": f"{MODULE}:number"}, "is a int, not a function"),
        ("mopo", {"dynamics": "perfect"}, "it must be learned or oracle or module:function"),
        ("bc", {"actor": own.narrow}, r"output is \(2, 5\), not \(2, 6\)"),
        ("bc", {"actor": own.no_module}, "not a torch.nn.Module"),
        ("bc", {"actor": own.broken}, r"--actor .*:broken does not fit \(ZeroDivisionError"),
        ("iql", {"critic": own.deterministic_actor}, "--critic .* does not fit"),
        ("bc", {"actor": own.soft_actor}, "--actor .*:soft_actor does not fit"),
        ("romi", {"dynamics": own.unrecorded}, "the layers one by one do not agree"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(algo, told, message, tiny_data, tmp_path):
    with pytest.raises(UserError, match=message) as caught:
        run(tmp_path, algo, **told)
    assert "\n" not in str(caught.value)


def test_an_ensemble_with_a_forward_of_its_own_is_no_hindrance_elsewhere(tiny_data, tmp_path):
    assert run(tmp_path, "mopo", epoch=1, dynamics=own.unrecorded).steps == 4
