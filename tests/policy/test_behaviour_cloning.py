"""Behaviour cloning of RAMBO's actor: its loss, its order, its file."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.policy import RAMBOPolicy
from tests.reference import sac
from tests.support.policies import make_batch, make_policy
from tests.support.scripted import assert_same_parameters, draw, plain_adam, twin


def make_rambo(**kwargs) -> RAMBOPolicy:
    return make_policy(RAMBOPolicy, **kwargs)


def logger(folder: Path) -> SimpleNamespace:
    return SimpleNamespace(model_dir=str(folder), log=lambda line: None)


def test_an_epoch_equals_the_steps_by_hand() -> None:
    policy, data = make_rambo(seed=1), make_batch(7)
    source, copy = twin(policy.generator), make_rambo(seed=1).actor
    optim = plain_adam(copy.parameters(), 0.01)
    policy.pretrain(data, 2, 3, 0.01)
    for _ in range(2):
        for rows in torch.randperm(7, generator=source).split(3):  # the last batch has one row
            obs, action = data["observations"][rows], data["actions"][rows]
            optim.zero_grad()
            sac.cloning_loss(copy, obs, action, draw(source, len(rows), 2)).backward()
            optim.step()
    assert_same_parameters(policy.actor, copy)


def test_cloning_approaches_a_deterministic_behaviour() -> None:
    policy, data = make_rambo(hidden_dims=(32, 32)), make_batch(200)
    data["actions"] = torch.tanh(data["observations"][:, :2])
    first = policy.pretrain(data, 1, 50, 3e-3)
    assert policy.pretrain(data, 60, 50, 3e-3) < 0.2 * first


def test_every_step_looks_for_signals() -> None:
    looked: list[int] = []
    make_rambo().pretrain(make_batch(7), 2, 3, 0.01, check=lambda: looked.append(1))
    assert len(looked) == 2 * 3


def test_no_epoch_changes_nothing() -> None:
    policy = make_rambo()
    policy.pretrain(make_batch(7), 0, 3, 0.01)
    assert_same_parameters(policy, make_rambo(), 0.0)


def test_the_saved_policy_loads_into_another(tmp_path: Path) -> None:
    first, second = make_rambo(seed=1), make_rambo(seed=2)
    first.pretrain(make_batch(7), 1, 3, 0.01, logger(tmp_path))
    assert [file.name for file in tmp_path.iterdir()] == ["rambo_pretrain.pth"]
    second.load(str(tmp_path))
    assert_same_parameters(first, second, 0.0)


def test_a_missing_damaged_or_foreign_file_is_refused_in_one_line(tmp_path: Path) -> None:
    policy = make_rambo()
    file = tmp_path / "rambo_pretrain.pth"
    with pytest.raises(UserError, match="rambo_pretrain"):
        policy.load(str(tmp_path))
    file.write_bytes(b"no")
    with pytest.raises(UserError, match="damaged"):
        policy.load(str(tmp_path))
    torch.save(make_rambo(hidden_dims=(6, 7)).state_dict(), file)
    with pytest.raises(UserError, match="another network") as caught:
        policy.load(str(tmp_path))
    assert "\n" not in str(caught.value)
    assert_same_parameters(policy, make_rambo(), 0.0)
