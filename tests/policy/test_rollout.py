"""Rollouts in the model: which rows continue, what is returned, and in which order."""

import pytest
import torch

from offlinerlkit_romi.policy import MOPOPolicy
from tests.support.policies import FLOAT64, generator, make_dynamics, make_policy
from tests.support.scripted import twin

STARTS, HORIZON = 40, 5


def ends_high(obs, action, next_obs) -> torch.Tensor:
    return next_obs[..., :1] > 0.4


def make_mopo(terminal_fn=ends_high, **kwargs) -> MOPOPolicy:
    return make_policy(MOPOPolicy, dynamics=make_dynamics(terminal_fn=terminal_fn, **kwargs))


def starts(rows: int = STARTS) -> torch.Tensor:
    return torch.randn(rows, 3, generator=generator(8), dtype=FLOAT64)


def split_by_step(transitions, policy: MOPOPolicy, first: int) -> list[dict[str, torch.Tensor]]:
    """Undo the concatenation: a step has as many rows as the step before left alive."""
    steps, at, rows = [], 0, first
    while at < len(transitions["obss"]):
        assert rows, "rows continue although every row of the step before has ended"
        step = {name: x[at : at + rows] for name, x in transitions.items()}
        steps.append(step)
        at, rows = at + rows, int((step["terminals"] == 0).sum())
    return steps


def test_only_living_rows_continue_and_in_order() -> None:
    policy = make_mopo()
    obs = starts()
    transitions, _ = policy.rollout(obs, HORIZON)
    steps = split_by_step(transitions, policy, STARTS)
    assert 1 < len(steps) <= HORIZON and transitions["terminals"].any()
    for step in steps:
        assert torch.equal(step["obss"], obs)
        obs = step["next_obss"][step["terminals"].squeeze(-1) == 0]


def test_terminals_are_the_rules_verdict_on_the_predicted_state() -> None:
    transitions, _ = make_mopo().rollout(starts(), HORIZON)
    expected = (transitions["next_obss"][:, :1] > 0.4).double()
    assert torch.equal(transitions["terminals"], expected)


def test_counts_and_mean_reward_are_those_of_the_returned_rows() -> None:
    transitions, info = make_mopo().rollout(starts(), HORIZON)
    assert {len(x) for x in transitions.values()} == {info["num_transitions"]}
    assert info["reward_mean"] == pytest.approx(transitions["rewards"].mean().item(), rel=1e-12)


@pytest.mark.parametrize("horizon", [1, 3])
def test_without_terminals_every_row_runs_the_whole_horizon(horizon: int) -> None:
    policy = make_mopo(lambda o, a, n: torch.zeros_like(n[:, :1], dtype=torch.bool))
    transitions, info = policy.rollout(starts(), horizon)
    assert info["num_transitions"] == STARTS * horizon
    assert list(transitions) == ["obss", "next_obss", "actions", "rewards", "terminals"]
    assert [x.shape[1] for x in transitions.values()] == [3, 3, 2, 1, 1]


def test_a_rollout_ends_when_nobody_is_left() -> None:
    policy = make_mopo(lambda o, a, n: torch.ones_like(n[:, :1], dtype=torch.bool))
    assert policy.rollout(starts(), HORIZON)[1]["num_transitions"] == STARTS


def test_actions_are_stochastic_samples_of_the_policy() -> None:
    policy = make_mopo()
    source = twin(policy.generator)
    transitions, _ = policy.rollout(starts(), 1)
    dist = policy.actor(starts())
    expected = dist.rsample(dist.noise(source))[0]
    assert torch.equal(transitions["actions"], expected.detach())


def test_rewards_carry_the_penalty() -> None:
    plain, penalised = make_mopo(), make_mopo(penalty_coef=2.0)
    free, _ = plain.rollout(starts(), 1)
    charged, _ = penalised.rollout(starts(), 1)
    model = penalised.dynamics
    inputs = model.inputs(charged["obss"], charged["actions"])
    penalty = model.penalty(*(x.detach() for x in model.model(inputs)))
    torch.testing.assert_close(
        charged["rewards"], free["rewards"] - 2 * penalty, rtol=1e-10, atol=1e-12
    )
    assert (penalty > 0).all()
