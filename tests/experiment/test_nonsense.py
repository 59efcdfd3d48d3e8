"""Nonsense for every option of every algorithm, through the command line's parser.

What a class declares, its heirs share: each declaration is tried at the first algorithm that has it
(about 130 instead of 700).
"""

from dataclasses import fields
from inspect import get_annotations
from types import NoneType
from typing import Literal, get_args, get_origin, get_type_hints

import numpy as np
import pytest

from offlinerlkit_romi import cli
from offlinerlkit_romi.experiment import limits
from offlinerlkit_romi.experiment import run as run_module
from offlinerlkit_romi.experiment.algorithms import ALGORITHMS
from offlinerlkit_romi.experiment.config import flag
from offlinerlkit_romi.experiment.limits import rules

NUMBERS = ("nan", "inf", "-inf", "1e30", "1" + 18 * "0", "abc", "")
# where these are no nonsense
NEGATIVE = {"reward_scale", "reward_bias", "target_entropy", "lagrange_threshold"}
# 0 is none either in what these types say, nor here
WITH_ZERO = (limits.Whole, limits.Seed, limits.Share, limits.Dropout, limits.Weight, limits.Number)
ZERO = {"threads", "dynamics_threads", "eval_episodes", "error_segments", "keep_checkpoints"}
# what is more than one value, and why it is wrong
SEVERAL = {
    "hidden_dims": ("", "0", "8 -8", "8 1.5", "8 nan", "8 abc", "8 1000000000"),
    "dynamics_hidden_dims": ("", "0", "8 8", "8 8 8 8 8", "8 8 8 0", "8 8 8 1000000000"),
    "weight_hidden_dims": ("", "0", "8 -8", "8 1000000000"),
    "dynamics_weight_decay": ("", "0", "0 0 0 0 -1", "0 0 0 0 nan", "0 0 0 0 1e30", "0 0 0 0 0 0"),
    "weight_range": ("", "1", "0.5 1 2", "2 0.5", "1 1", "0 1", "-1 1", "nan 1", "0.5 1e30"),
    "eval_shift": ("", "delta", "detla:0.1", "gaussian:0.1", "delta:0.1 mass:0"),
    "action_bounds": ("", "1", "-1 0 1", "1 -1", "1 1", "-inf inf", "nan 1", "-1e30 1", "a b"),
}
# a text is judged where it is used
TEXTS = {
    "task": ("nonsense", "hoper-medium-v2"),
    "preset": ("nonsense", "", "8"),
    "data": ("nonsense", "nonsense.hdf5", "."),
    "env": ("nonsense", "no.module:nothing"),
    "termination": ("nonsense", "no.module:nothing", "8"),
    "reward_fn": ("nonsense", "no.module:nothing", "8"),
    "device": ("nonsense", "", "cuda:99", "cuda:-1", "meta"),
    "resume": ("nonsense", "."),
    "dynamics_cache": ("/dev/null",),
    "load_dynamics_path": ("nonsense", "", "."),
    "load_bc_path": ("nonsense", "", "."),
    **dict.fromkeys(
        ("actor", "critic", "dynamics", "weighting_net"), ("nonsense", "no.module:nothing", "8")
    ),
}
ANY_TEXT = {"log_root", "algo_name"}


def declarations():
    """(algorithm, field's name, its plain type) of everything that is declared once."""
    found = {}
    for algo, kind in ALGORITHMS.items():
        for name, hint in get_type_hints(kind).items():
            owner = next(c for c in kind.__mro__ if name in get_annotations(c))
            found.setdefault((owner, name), (algo, name, hint))
    return list(found.values())


def plain(hint):
    """The type without its None."""
    return (
        next((arg for arg in get_args(hint) if arg is not NoneType), hint)
        if (NoneType in get_args(hint))
        else hint
    )


DECLARED = declarations()
for _algo, _name, _ in DECLARED:
    _hint = get_type_hints(ALGORITHMS[_algo], include_extras=True)[_name]
    if any(part in WITH_ZERO for part in (_hint, *get_args(_hint))):
        ZERO.add(_name)
VALUES = [(*d[:2], plain(d[2])) for d in DECLARED if plain(d[2]) is not str]


def nonsense(name, kind):
    """Words after the flag; none of them may be taken."""
    if name in SEVERAL:
        return [words.split() for words in SEVERAL[name]]
    if kind is bool:
        return [["maybe"], ["2"], ["True", "False"]]
    if get_origin(kind) is Literal:
        return [[], ["nonsense"], [""], ["8"], [*get_args(kind)[:2]]]
    assert kind in (int, float), (name, kind)
    wrong = [[], ["1", "1"], *([word] for word in NUMBERS)]
    wrong += [["1.5"]] if kind is int else []
    wrong += [] if name in NEGATIVE else [["-1"]]
    return wrong + ([] if name in ZERO else [["0"]])


@pytest.fixture
def train(monkeypatch, capsys):
    """`train ...` up to where data are read: status, what stderr said, the configuration."""
    seen = []
    monkeypatch.setattr(run_module, "run", lambda resolved, argv: seen.append(resolved.config))

    def call(*words):
        seen.clear()
        status = cli.main(["train", *words])
        return status, capsys.readouterr().err, seen[0] if seen else None

    return call


def refused(outcome, words, name=None):
    status, said, config = outcome
    assert config is None and status == 2, words
    assert said.startswith("error: ") and said.count("\n") == 1 and len(said) > 20, (words, said)
    if name is not None:
        assert flag(name) in said or f"{name} is" in said, (words, said)


@pytest.mark.parametrize(("algo", "name", "kind"), VALUES)
def test_nonsense_is_one_line_and_status_2(algo, name, kind, train):
    for values in nonsense(name, kind):
        words = (algo, flag(name), *values)
        refused(train(*words), words, name if len(values) == 1 else None)


@pytest.mark.parametrize(
    ("algo", "name", "value"),
    [(algo, name, "0") for algo, name, _ in VALUES if name in ZERO]
    + [(algo, name, "-1") for algo, name, _ in VALUES if name in NEGATIVE],
)
def test_what_is_no_nonsense_is_taken_as_it_is(algo, name, value, train):
    status, said, config = train(algo, flag(name), value)
    assert (status, said, getattr(config, name)) == (0, "", float(value))


def test_the_lists_of_this_test_name_options():
    known = {name for _, name, _ in DECLARED}
    assert {*NEGATIVE, *ZERO, *SEVERAL, *TEXTS, *ANY_TEXT} <= known
    texts = {name for _, name, hint in DECLARED if plain(hint) is str}
    assert texts == {*TEXTS, *ANY_TEXT}


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_every_number_has_its_bounds_at_its_field(algo):
    for name, hint in get_type_hints(ALGORITHMS[algo], include_extras=True).items():
        bare = plain(get_type_hints(ALGORITHMS[algo])[name])
        if bare in (int, float) or get_origin(bare) is tuple:
            assert rules(hint), f"{algo} {name} has no bounds"
    assert {f.name for f in fields(ALGORITHMS[algo])} <= {name for _, name, _ in DECLARED}


@pytest.fixture
def own_data(here, monkeypatch):
    """Words for data of one's own: a text is read as far as it can be before training."""
    rng = np.random.default_rng(0)
    states = rng.normal(size=(201, 3)).astype(np.float32)
    path = here / "own.npz"
    np.savez(
        path,
        observations=states[:-1],
        next_observations=states[1:],
        actions=rng.uniform(-1, 1, (200, 2)).astype(np.float32),
        rewards=rng.normal(size=200).astype(np.float32),
        terminals=np.arange(1, 201) % 20 == 0,
    )
    monkeypatch.setattr(run_module, "settle_arithmetic", lambda *_: None)
    return ["--data", str(path), "--termination", "none"]


@pytest.mark.parametrize("name", TEXTS)
def test_a_nonsensical_text_is_one_line_before_anything_is_made(name, own_data, tmp_path, capsys):
    algo = next(algo for algo, known, _ in DECLARED if known == name)
    base = [] if name in ("task", "data") else own_data
    for value in TEXTS[name]:
        words = ["train", algo, *base, flag(name), value]
        outcome = cli.main(words), capsys.readouterr().err, None
        refused(outcome, words)
    assert [path.name for path in tmp_path.iterdir()] == ["own.npz"]
