"""Every option of every algorithm changes something of the run, or it has no business there."""

from dataclasses import fields
from functools import cache
from types import NoneType
from typing import Literal, get_args, get_origin, get_type_hints

import numpy as np
import pytest

from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.experiment import estimates as estimates_module
from offlinerlkit_romi.experiment.algorithms import ALGORITHMS
from offlinerlkit_romi.experiment.config import RunConfig
from offlinerlkit_romi.experiment.model_config import ModelBasedConfig
from offlinerlkit_romi.experiment.resolve import settle
from offlinerlkit_romi.experiment.run import train
from tests.experiment import own_functions
from tests.experiment.building import built
from tests.experiment.conftest import TINY_SETTINGS
from tests.support.comparing import differences, outcome
from tests.support.stopping import before

MODULE, NETWORKS = "tests.experiment.own_functions", "tests.experiment.own_networks"
# a run's own settings, which code without an eye for the algorithm takes: tried at one with a
# model and at one without
OF_ALL = {field.name for field in fields(RunConfig)} - {
    *("batch_size", "hidden_dims", "actor_lr", "actor_lr_schedule"),
}
OPTIONS = [
    (algo, field.name)
    for algo, kind in ALGORITHMS.items()
    for field in fields(kind)
    if field.name not in OF_ALL or algo in ("romi", "iql")
    if (algo, field.name) != ("count_morl", "dynamics")  # refuses all but one value
]
# the only difference is in a rule, or past one: it ends no rollout of so small a run
BUILT = {("mopo", "compat"), ("rombrl", "discount_restarts")}
# what else must be set for an option to matter
FIXED_ALPHA = {"auto_alpha": False}
LAGRANGE = {"with_lagrange": True}
CLONING = {"bc_epoch": 1}
OWN = {"data": "OWN", "task": "tank", "action_bounds": (-10.0, 10.0), "termination": "none"}
PLAYED = OWN | {"env": f"{MODULE}:make_short_tank", "eval_episodes": 1}
ESTIMATED = OWN | {"estimates": "fqe", "fqe_steps": 1, "epoch": 2}
CONTEXT = {
    "alpha": FIXED_ALPHA,
    "lagrange_threshold": LAGRANGE,
    "cql_alpha_lr": LAGRANGE,
    "bc_lr": CLONING,
    "bc_batch_size": CLONING,
    "max_epochs_since_update": {
        "dynamics_lr": 1e-9,
        "dynamics_early_stop": True,
        "dynamics_max_epochs": 3,
        "max_epochs_since_update": 1,
    },
    "dynamics_early_stop": {
        "dynamics_lr": 1e-9,
        "dynamics_max_epochs": 3,
        "max_epochs_since_update": 1,
    },
    "dynamics_hidden_dims": {"dynamics_hidden_dims": (8, 8), "dynamics_weight_decay": (0.0,) * 3},
    **dict.fromkeys(("env", "termination", "reward_fn", "action_bounds"), OWN),
    **dict.fromkeys(
        ("eval_episodes", "eval_freq", "eval_async", "eval_shift", "keep_best"), PLAYED
    ),
    "early_stop_patience": PLAYED | {"epoch": 4, "actor_lr": 1e-9},
    **dict.fromkeys(("fqe_steps", "estimate_freq"), ESTIMATED),
    "dynamics_threads": {"dynamics_threads": 2},
    "error_segments": {"error_segments": 1},
    "reward_likelihood": {"variant": "no_weighting"},
    "noise_clip": {"policy_noise": 5.0},
    "beta_ood": {"lambda_ood": 1.0},
    "lambda_ood_min": {"beta_ood": 0.5, "lambda_ood": 1.0, "lambda_ood_decay": 1.0},
    "preconditioner": {"adv_train_steps": 4},
    "trajectory_length": {"leader_mode": "plain"},
    "model_horizon": {"leader_mode": "plain", "model_horizon": 2},
    "follower_clip": {"dynamics_adv_lr": 0.05},
    "matmul_precision": {"matmul_precision": "highest"},
}
# values of a text; where there are several, one must change something
TEXTS = {
    "task": ["hopper-medium-v2"],
    "preset": ["quick", "paper"],
    "data": ["generated"],
    "env": [f"{MODULE}:make_short_tank"],
    "termination": [f"{MODULE}:full"],
    "reward_fn": [f"{MODULE}:reward_of"],
    "device": ["cuda:99"],
    "log_root": ["other"],
    "algo_name": ["other"],
    "resume": ["nowhere"],
    "eval_shift": [("delta:0.5",)],
    "dynamics_cache": ["off"],
    "actor": [f"{NETWORKS}:soft_actor", f"{NETWORKS}:bounded_actor"],
    "critic": [f"{NETWORKS}:critic"],
    "dynamics": [f"{NETWORKS}:ensemble"],
    "weighting_net": [f"{NETWORKS}:weighting_net"],
    "load_dynamics_path": ["nowhere"],
    "load_bc_path": ["nowhere"],
}


def changed(name, kind, value):
    """Other values than the present one."""
    options = [arg for arg in get_args(kind) if arg is not NoneType]
    if NoneType in get_args(kind):
        return [x for x in changed(name, options[0], value) if x != value]
    if name in TEXTS:
        return TEXTS[name]
    if kind is bool:
        return [True, False] if value is None else [not value]
    if get_origin(kind) is Literal:
        return [option for option in options if option != value]
    if get_origin(kind) is tuple:
        return [tuple(2 * x for x in value), tuple(x + 0.125 for x in value)]
    if kind is int:
        return [1 if value is None else value + 1]
    assert kind is float, (name, kind)
    return [0.25] if value is None else [value + 0.125, value / 2]


class Workshop:
    """Builds and runs an algorithm in folders of its own."""

    def __init__(self, algo, folder):
        self.algo, self.folder = algo, folder
        self.known = get_type_hints(ALGORITHMS[algo])
        self.own = folder / "own.npz"
        (episode,) = own_functions.episodes(1, 300)
        rows = {name: values[: len(episode["actions"])] for name, values in episode.items()}
        np.savez(self.own, **rows, next_observations=episode["observations"][1:])
        self.done, self.count = {}, 0

    def values(self, **values):
        tiny = TINY_SETTINGS[self.algo] | {"log_root": "log", "eval_async": False, "epoch": 1}
        return tiny | {n: v for n, v in values.items() if n in self.known}

    def settled(self, values):
        self.count += 1
        root = self.folder / str(self.count)
        root.mkdir()
        told = {"data": str(self.own)} if values.get("data") == "OWN" else {}
        told["log_root"] = str(root / values["log_root"])
        return root, settle(self.algo, values | told)

    def outcome(self, how, values):
        """Of the build or the run of these values, each made once."""
        key = repr((how.__name__, sorted(values.items())))
        if key not in self.done:
            self.done[key] = how(values)
        return self.done[key]

    def build(self, values):
        root, resolved = self.settled(values)
        return built(resolved, root)

    def train(self, values):
        _, resolved = self.settled(values)
        told = {n: getattr(resolved.config, n) for n in values} | {"checkpoint_freq": 0}
        fits = []

        def note(rows, settings, *_):  # of so little data none settles, and none gives a value
            fits.append(repr(settings))

        with before(estimates_module, "fitted_q_evaluation", note):
            return outcome(train(self.algo, **told).run_dir) | {"fits": fits}

    def matters(self, name, value, base):
        """Whether another value changes what is built, or what comes of training.

        Of an algorithm's own switches the latter is asked: what is built may only remember them.
        A value that the configuration refuses is none; one that the run refuses is noticed.
        """
        other = base | {name: value}
        try:
            self.settled(other)
        except UserError:
            return False
        own = name not in ModelBasedConfig.__dataclass_fields__ and isinstance(value, bool | str)
        trained_alone = own and (self.algo, name) not in BUILT
        for how in (self.train,) if trained_alone else (self.build, self.train):
            before = self.outcome(how, base)
            try:
                after = how(other)
            except UserError:
                return True
            if differences(before, after):
                return True
        return False


@pytest.fixture(scope="module")
def workshops(tmp_path_factory):
    return cache(lambda algo: Workshop(algo, tmp_path_factory.mktemp(algo)))


@pytest.mark.parametrize(("algo", "name"), OPTIONS)
def test_every_option_changes_something(algo, name, workshops, tiny_data):
    workshop = workshops(algo)
    base = workshop.values(**CONTEXT.get(name, {}))
    _, resolved = workshop.settled(base)
    before = getattr(resolved.config, name)
    candidates = changed(name, workshop.known[name], before)
    assert any(workshop.matters(name, value, base) for value in candidates), candidates


def test_two_builds_of_one_run_do_not_differ(workshops, tiny_data):
    for algo in ("romi", "iql"):
        workshop = workshops(algo)
        base = workshop.values()
        assert not differences(workshop.build(base), workshop.build(base))
