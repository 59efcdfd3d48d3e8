"""The worst observation of a ball: inside it, worse than chance, and nobody else's draws."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from offlinerlkit_romi import policy as policies
from offlinerlkit_romi.envs import Evaluator
from offlinerlkit_romi.envs.attacks import Attacker, action_difference, mean_value
from offlinerlkit_romi.envs.shifts import Draws, Shift
from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.utils.scaler import StandardScaler
from tests.envs.test_evaluation import HOPPER, assert_same
from tests.support.policies import make_policy

OBS_DIM, ACTION_DIM = 11, 3
STD = np.linspace(0.2, 3.0, OBS_DIM)
KINDS = ("action_diff", "min_q", "action_diff_pgd", "min_q_pgd")
WITH_CRITICS = ("SAC", "CQL", "EDAC", "MCQ", "IQL", "TD3", "TD3BC", "MOPO", "MOBILE", "ROMI")


def policy_of(name: str, **options: Any) -> Any:
    made = make_policy(
        getattr(policies, f"{name}Policy"), OBS_DIM, ACTION_DIM, (16, 16), torch.float32, **options
    )
    return made.eval()


def states(rows: int) -> np.ndarray:
    return np.random.default_rng(3).normal(size=(rows, OBS_DIM)) * STD


def draws(rows: int) -> Draws:
    return Draws([np.random.default_rng([9, i]) for i in range(rows)])


def attacked(
    policy: Any, kind: str, obs: np.ndarray, scale: float = 0.3, critic: Any = None
) -> Any:
    attack = Shift(kind, scale, "std")
    attacker = Attacker(policy, critic or policy, STD, [attack])
    return attacker(attack, obs, obs, draws(len(obs)))


def difference(policy: Any, obs: np.ndarray, other: np.ndarray) -> np.ndarray:
    pair = (torch.as_tensor(x[:, None], dtype=torch.float32) for x in (obs, other))
    return action_difference(policy, *pair).detach().numpy()[:, 0]


@torch.no_grad()
def value(critic: Any, policy: Any, obs: np.ndarray, shown: np.ndarray) -> np.ndarray:
    action = policy.select_action(shown.astype(np.float32), deterministic=True)
    seen = obs if critic.scaler is None else critic.scaler.transform(obs)
    pair = (torch.as_tensor(x, dtype=torch.float32) for x in (seen, action))
    return mean_value(critic.critics, *pair).numpy()


@pytest.mark.parametrize("name", ["SAC", "TD3BC", "IQL"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_attack_stays_inside_the_ball_and_moves(name: str, kind: str) -> None:
    policy, obs = policy_of(name), states(20)
    shown = attacked(policy, kind, obs)
    assert shown.dtype == np.float64 and shown.shape == obs.shape
    assert (abs(shown - obs) <= 0.3 * STD + 1e-12).all() and (shown != obs).any(1).mean() > 0.8
    np.testing.assert_array_equal(attacked(policy, kind, obs, scale=0.0), obs)
    assert all(p.grad is None for p in policy.parameters())


@pytest.mark.parametrize("name", ["SAC", "TD3BC"])
def test_the_search_for_other_actions_beats_chance_and_the_gradient_beats_the_search(
    name: str,
) -> None:
    policy, obs = policy_of(name), states(500)
    chance = obs + 0.3 * STD * (2 * draws(500).uniform(OBS_DIM) - 1)
    found = [chance, *(attacked(policy, kind, obs) for kind in ("action_diff", "action_diff_pgd"))]
    at_random, drawn, climbed = (difference(policy, obs, shown).mean() for shown in found)
    assert 0 < 1.2 * at_random < drawn and 1.2 * drawn < climbed


@pytest.mark.parametrize("name", ["SAC", "TD3BC", "EDAC"])
def test_an_attack_on_values_never_raises_them_and_the_gradient_lowers_them_more(name: str) -> None:
    policy, obs = policy_of(name), states(200)
    clean, drawn, climbed = (
        value(policy, policy, obs, shown)
        for shown in (obs, attacked(policy, "min_q", obs), attacked(policy, "min_q_pgd", obs))
    )
    assert (drawn <= clean + 1e-6).all() and (drawn < clean - 1e-4).mean() > 0.5
    assert climbed.mean() < drawn.mean()


def test_another_policys_critics_are_asked_at_the_true_state_in_their_own_units() -> None:
    policy, critic = policy_of("BC"), policy_of("TD3BC", seed=5)
    critic.scaler = StandardScaler(np.full((1, OBS_DIM), 0.3), STD[None])
    obs = states(200)
    shown = attacked(policy, "min_q_pgd", obs, critic=critic)
    assert value(critic, policy, obs, shown).mean() < value(critic, policy, obs, obs).mean()
    other = attacked(policy, "min_q_pgd", obs, critic=policy_of("TD3BC", seed=6))
    assert (shown != other).any()


def test_a_standardising_policy_is_attacked_through_its_scaler() -> None:
    plain, scaled = policy_of("TD3BC"), policy_of("TD3BC")
    scaled.scaler = StandardScaler(np.zeros((1, OBS_DIM)), STD[None])
    obs = states(50)
    attack = Shift("action_diff_pgd", 0.3, "raw")
    in_units = Attacker(plain, plain, None, [attack])(attack, obs / STD, obs / STD, draws(50))
    np.testing.assert_allclose(attacked(scaled, "action_diff_pgd", obs) / STD, in_units, atol=1e-5)


def test_the_difference_of_gaussians_is_both_their_divergences_before_squashing() -> None:
    policy, obs = policy_of("SAC"), states(6)
    one, other = (torch.as_tensor(x, dtype=torch.float32) for x in (obs[:3], obs[3:]))
    normals = [
        torch.distributions.Normal(dist.mean, dist.stddev)
        for dist in (policy.actor(one), policy.actor(other))
    ]
    expected = sum(torch.distributions.kl_divergence(*p).sum(-1) for p in (normals, normals[::-1]))
    found = action_difference(policy, one[:, None], other[:, None])[:, 0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_the_difference_of_actions_is_their_squared_distance() -> None:
    policy, obs = policy_of("TD3BC"), states(6)
    actions = policy.select_action(obs.astype(np.float32), deterministic=True)
    expected = np.square(actions[:3] - actions[3:]).sum(1)
    np.testing.assert_allclose(difference(policy, obs[:3], obs[3:]), expected, rtol=1e-5)


@pytest.mark.parametrize("name", WITH_CRITICS)
def test_every_policy_with_critics_tells_a_mean_value(name: str) -> None:
    policy = policy_of(name)
    obs, action = torch.ones(4, OBS_DIM), torch.zeros(4, ACTION_DIM)
    found = mean_value(policy.critics, obs, action)
    one_by_one = (
        policy.critics(obs, action) if name == "EDAC" else [q(obs, action) for q in policy.critics]
    )
    torch.testing.assert_close(found, sum(q.squeeze(-1) for q in one_by_one) / len(one_by_one))


def test_an_attack_without_critics_or_actor_is_refused() -> None:
    attack = Shift("min_q", 0.1, "std")
    with pytest.raises(
        UserError, match=r"shift min_q:0\.1:std: BC has no critics: give --attack-cri"
    ):
        Attacker(policy_of("BC"), policy_of("BC"), STD, [attack])
    with pytest.raises(UserError, match="the policy has no actor to attack"):
        Attacker(object(), policy_of("SAC"), STD, [attack])


@pytest.mark.parametrize("kind", KINDS)
def test_the_policy_is_shown_the_attack_whose_draws_are_the_evaluations_own(kind: str) -> None:
    policy = policy_of("SAC")
    seen: list[np.ndarray] = []
    act, before = policy.select_action, torch.get_rng_state()
    policy.select_action = lambda obs, deterministic: (seen.append(obs), act(obs, deterministic))[1]
    evaluator = Evaluator(HOPPER, episodes=3, seed=1, max_episode_steps=15, obs_std=STD)
    clean = evaluator.under("clean")(policy)
    assert_same(evaluator.under(f"{kind}:0:std")(policy), clean)
    true = seen[0]
    seen.clear()
    own = policy.generator.get_state()
    worse = evaluator.under(f"{kind}:0.5:std")(policy)
    assert (worse.returns != clean.returns).all()
    assert abs(seen[0] - true).max() > 0 and (abs(seen[0] - true) <= 0.5 * STD + 1e-12).all()
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(policy.generator.get_state(), own)
    assert_same(evaluator.under(f"{kind}:0.5:std")(policy), worse)


def test_attacks_do_not_depend_on_who_else_is_attacked() -> None:
    policy, obs = policy_of("SAC"), states(6)
    for kind in KINDS:
        attack = Shift(kind, 0.3, "std")
        attacker = Attacker(policy, policy, STD, [attack])
        alone = attacker(attack, obs[:1], obs[:1], draws(1))
        np.testing.assert_allclose(attacked(policy, kind, obs)[:1], alone, atol=1e-5)


def test_the_gradient_finds_the_corner_of_a_linear_policy() -> None:
    policy = policy_of("TD3BC")
    weight = torch.linspace(-0.5, 0.6, OBS_DIM)
    policy.actor = nn.Linear(OBS_DIM, 1)
    with torch.no_grad():
        policy.actor.weight.copy_(weight), policy.actor.bias.zero_()
    shown = attacked(policy, "action_diff_pgd", np.zeros((3, OBS_DIM)))
    corner = 0.3 * STD * np.sign(weight.numpy())
    for row in shown:
        assert abs(row @ weight.numpy()) > 0.9 * corner @ weight.numpy()
