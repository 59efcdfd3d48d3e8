"""Open-loop prediction error on held-out pieces of episodes."""

from __future__ import annotations

import numpy as np
import torch

from offlinerlkit_romi.dynamics.prediction_error import (
    Segments,
    consecutive_starts,
    cut_segments,
    one_step_errors,
    prediction_error,
)
from tests.support.policies import FLOAT64, generator, make_dynamics


def _episodes(lengths: list[int], obs_dim: int = 3) -> dict[str, torch.Tensor]:
    obs, next_obs = [], []
    for number, length in enumerate(lengths):
        states = torch.randn(length + 1, obs_dim, generator=generator(number), dtype=FLOAT64)
        obs.append(states[:-1])
        next_obs.append(states[1:])
    actions = torch.randn(sum(lengths), 2, generator=generator(9), dtype=FLOAT64)
    return {
        "observations": torch.cat(obs),
        "next_observations": torch.cat(next_obs),
        "actions": actions,
        "rewards": actions[:, :1] + 1,
    }


def test_starts_never_reach_into_another_episode() -> None:
    data = _episodes([4, 2, 5])
    starts = consecutive_starts(data["observations"], data["next_observations"], 3)
    assert starts.tolist() == [0, 1, 6, 7, 8]


def test_data_shorter_than_a_segment_gives_none() -> None:
    segments, covered = cut_segments(_episodes([2]), length=3, count=4)
    assert len(segments.observations) == 0 and not covered.any()


def test_segments_are_the_rows_they_cover() -> None:
    data = _episodes([6, 7])
    segments, covered = cut_segments(data, length=2, count=3, generator=generator())
    assert segments.observations.shape == (3, 3, 3) and segments.actions.shape == (3, 2, 2)
    for observations, actions, rewards in zip(*segments, strict=True):
        (start,) = (data["actions"] == actions[0]).all(-1).nonzero().flatten().tolist()
        torch.testing.assert_close(observations[:2], data["observations"][start : start + 2])
        torch.testing.assert_close(observations[2], data["next_observations"][start + 1])
        torch.testing.assert_close(rewards, data["rewards"][start : start + 2])
        assert covered[start : start + 2].all()
    assert covered.sum() <= 6


def test_error_equals_a_loop_over_segments_and_steps() -> None:
    dynamics = make_dynamics()
    segments, _ = cut_segments(_episodes([9]), length=3, count=4, generator=generator())
    found = prediction_error(dynamics, segments)
    squares = np.zeros((3, 4))
    for i, (observations, actions, _) in enumerate(zip(*segments, strict=True)):
        obs = observations[0]
        for step in range(3):
            inputs = dynamics.inputs(obs[None], actions[step][None])
            mean = dynamics.model(inputs)[0].detach()
            obs = obs + sum(mean[e, 0, :-1] for e in dynamics.model.elites.tolist()) / 2
            squares[step, i] = float((obs - observations[step + 1]).square().mean())
    np.testing.assert_allclose(found.numpy(), np.sqrt(squares.mean(1)), rtol=1e-12)


def test_a_perfect_model_has_no_error() -> None:
    dynamics = make_dynamics()
    model = dynamics.model
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    still = torch.ones(2, 4, 3, dtype=FLOAT64)
    rewards = torch.zeros(2, 3, 1, dtype=FLOAT64)
    segments = Segments(still, torch.zeros(2, 3, 2, dtype=FLOAT64), rewards)
    assert prediction_error(dynamics, segments).abs().max() == 0


def test_one_step_errors_equal_those_of_the_elites_mean_and_of_no_change() -> None:
    dynamics, data = make_dynamics(), _episodes([1500, 1000])
    data["rewards"] = torch.zeros(2500, 1)
    error, unchanged = one_step_errors(dynamics, data)
    rows = range(0, 2500, 3)  # the least stride that leaves a thousand rows at most
    gaps, steps = [], []
    for i in rows:
        obs, next_obs = data["observations"][i : i + 1], data["next_observations"][i]
        gaps.append(dynamics.expected_next(obs, data["actions"][i : i + 1])[0] - next_obs)
        steps.append(obs[0] - next_obs)
    for found, parts in ((error, gaps), (unchanged, steps)):
        assert abs(found - torch.stack(parts).square().mean().sqrt().item()) < 1e-9
