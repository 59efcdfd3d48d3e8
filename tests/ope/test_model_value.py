"""The value of a policy in a model, against sums written out."""

from __future__ import annotations

import math

import pytest
import torch

from offlinerlkit_romi.ope import discount_horizon, model_value


class Countdown:
    """Counts down by one per step and pays what it stands at; ends at 0."""

    def __init__(self, drift: float = -1.0) -> None:
        self.drift = drift

    def sample_step(self, obs, action):
        assert action.shape == (len(obs), 1)
        next_obs = obs + self.drift
        penalised = torch.full((len(obs), 1), -1e9)
        return next_obs, penalised, next_obs <= 0, {"raw_reward": obs + action}


def no_action(obs):
    return torch.zeros(len(obs), 1)


def test_rewards_are_discounted_and_end_with_the_episode() -> None:
    starts = torch.tensor([[3.0], [1.0], [5.0]])
    values = model_value(Countdown(), no_action, starts, 0.5)
    expected = [3 + 2 / 2 + 1 / 4, 1, 5 + 4 / 2 + 3 / 4 + 2 / 8 + 1 / 16]
    assert values.tolist() == pytest.approx(expected)


def test_the_policy_acts_on_what_the_model_predicts() -> None:
    seen = []

    def act(obs):
        seen.append(obs[:, 0].tolist())
        return 10 * torch.ones(len(obs), 1)

    values = model_value(Countdown(), act, torch.tensor([[2.0]]), 0.5)
    assert seen == [[2.0], [1.0]] and values.tolist() == [12 + 11 / 2]


def test_predictions_stay_in_the_datas_box_and_the_sum_ends_at_the_horizon() -> None:
    box = torch.tensor([0.0]), torch.tensor([4.0])
    values = model_value(Countdown(drift=1e30), no_action, torch.tensor([[1.0]]), 0.5, box)
    horizon = discount_horizon(0.5)
    assert values.item() == pytest.approx(1 + 4 * sum(0.5**t for t in range(1, horizon)))
    assert model_value(Countdown(1.0), no_action, torch.tensor([[1.0]]), 1.0, horizon=3).item() == 6


@pytest.mark.parametrize(("gamma", "steps"), [(0.0, 1), (0.5, 7), (0.99, 459), (1.0, 1000)])
def test_beyond_the_horizon_less_than_a_hundredth_is_left(gamma: float, steps: int) -> None:
    assert discount_horizon(gamma) == steps
    if 0 < gamma < 1:
        assert gamma**steps <= 0.01 < gamma ** (steps - 1) and math.isfinite(gamma)


def test_scaled_and_shifted_rewards_are_told_as_they_were() -> None:
    """Nothing is added for the steps that an ended episode does not take."""

    class Scaled(Countdown):
        def sample_step(self, obs, action):
            *rest, info = super().sample_step(obs, action)
            return *rest, {"raw_reward": 10 * info["raw_reward"] - 3}

    starts = torch.tensor([[3.0], [1.0], [5.0]])
    values = model_value(Scaled(), no_action, starts, 0.5, reward_map=(10.0, -3.0))
    assert values.tolist() == pytest.approx(model_value(Countdown(), no_action, starts, 0.5))


def test_every_step_is_told() -> None:
    shares: list[float] = []
    model_value(Countdown(), no_action, torch.tensor([[9.0]]), 0.5, horizon=4, watch=shares.append)
    assert shares == [0.25, 0.5, 0.75, 1.0]
