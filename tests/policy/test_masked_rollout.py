"""The rollout in fixed shapes against the one that drops its dead rows."""

from typing import Any

import pytest
import torch

from offlinerlkit_romi.policy import COMBOPolicy, MOPOPolicy
from offlinerlkit_romi.policy.model_based.on_model import (
    masked_rollout,
    rollout,
    rollout_metrics,
)
from offlinerlkit_romi.policy_trainer import Sentinel
from tests.support.policies import FLOAT64, generator, make_dynamics, make_policy
from tests.support.recording import guarded

ROWS, HORIZON = 50, 6


def ends_high(obs: torch.Tensor, action: torch.Tensor, next_obs: torch.Tensor) -> torch.Tensor:
    return next_obs[..., :1] > 0.4


class ScriptedDynamics:
    """A simulator whose noise belongs to a row and a step, whoever else is still there.

    An observation is (row, step, value); one in about six steps ends.
    """

    def __init__(self) -> None:
        self.noise = torch.randn(ROWS, HORIZON, generator=generator(3), dtype=FLOAT64)

    def sample_step(self, obs: torch.Tensor, action: torch.Tensor) -> Any:
        row, step = obs[:, 0].long(), obs[:, 1].long()
        noise = self.noise[row, step.clamp_max(HORIZON - 1)].unsqueeze(1)
        value = 0.5 * obs[:, 2:] + action + noise
        next_obs = torch.cat([obs[:, :1], obs[:, 1:2] + 1, value], 1)
        return next_obs, value.square(), noise > 1.0, {}


def script() -> tuple[Any, Any, torch.Tensor]:
    obs = torch.zeros(ROWS, 3, dtype=FLOAT64)
    obs[:, 0] = torch.arange(ROWS)
    return ScriptedDynamics(), lambda x: torch.sin(x[:, 2:]), obs


@pytest.mark.parametrize("horizon", [1, 3, HORIZON])
def test_given_the_same_noise_the_masks_rows_are_the_other_rollouts_rows(horizon) -> None:
    dynamics, act, obs = script()
    expected, info = rollout(dynamics, act, obs, horizon)
    transitions, mask = masked_rollout(dynamics, act, obs, horizon)
    assert 0 < int(mask.sum()) == info["num_transitions"] < ROWS * horizon or horizon == 1
    assert all(len(x) == ROWS * horizon for x in (mask, *transitions.values()))
    for name, rows in expected.items():
        assert torch.equal(transitions[name][mask.squeeze(1)], rows)


def test_its_metrics_are_those_of_the_rows_that_count() -> None:
    dynamics, act, obs = script()
    expected, info = rollout(dynamics, act, obs, HORIZON)
    transitions, mask = masked_rollout(dynamics, act, obs, HORIZON)
    metrics = rollout_metrics(transitions, mask)
    assert metrics["num_transitions"] == info["num_transitions"]
    assert metrics["reward_mean"].item() == pytest.approx(info["reward_mean"], rel=1e-12)
    sentinel = Sentinel({}, None, obs[:, 1:].float() / 10)
    near = [x["next_obss"][:, 1:].float() for x in (transitions, expected)]
    masked, plain = sentinel.outside(near[0], mask), sentinel.outside(near[1])
    assert masked.keys() == plain.keys()
    assert all(float(masked[k]) == pytest.approx(float(plain[k])) for k in plain)


@pytest.mark.parametrize("cls", [MOPOPolicy, COMBOPolicy])
def test_where_nothing_ends_both_make_the_same_draws(cls) -> None:
    """The ensemble itself: members, noise and actions, bit for bit."""
    obs = torch.randn(20, 3, generator=generator(8), dtype=FLOAT64)
    expected, _ = make_policy(cls).rollout(obs, 4)
    policy = make_policy(cls)
    transitions, mask = masked_rollout(policy.dynamics, policy.act_in_model, obs, 4)
    assert bool(mask.all())
    assert all(torch.equal(transitions[name], rows) for name, rows in expected.items())


@pytest.mark.parametrize("penalty", [0.0, 0.7])
def test_it_waits_for_nothing(penalty) -> None:
    dynamics = make_dynamics(terminal_fn=ends_high, penalty_coef=penalty, weighted=False)
    policy = make_policy(MOPOPolicy, dynamics=dynamics)
    obs = torch.randn(20, 3, generator=generator(8), dtype=FLOAT64)
    policy.dynamics.scaler.transform_tensor(torch.zeros(1, 5, dtype=FLOAT64))
    with guarded():
        transitions, mask = masked_rollout(policy.dynamics, policy.act_in_model, obs, 3)
        rollout_metrics(transitions, mask)
    assert not mask.all()


def test_a_row_that_has_ended_cannot_overflow() -> None:
    class Exploding:
        def sample_step(self, obs: torch.Tensor, action: torch.Tensor) -> Any:
            next_obs = obs.square() * 10
            return next_obs, obs, next_obs > 1e3, {}

    obs = torch.full((4, 1), 5.0)
    transitions, mask = masked_rollout(Exploding(), lambda x: x, obs, 12)  # type: ignore[arg-type]
    assert all(bool(x.isfinite().all()) for x in transitions.values())
    assert int(mask.sum()) == 8
