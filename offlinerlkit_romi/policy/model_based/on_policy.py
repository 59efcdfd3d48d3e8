"""Trajectories in a learned model, and what policy-gradient steps on them need.

That is advantages and clipped objectives, of the policy's actions and of the transitions that the
model made of them. Shapes: T steps, n trajectories, and (T, n, 1) for what is one number per step.
"""

from __future__ import annotations

from typing import Any

import torch

from offlinerlkit_romi.buffer import ReplayBuffer
from offlinerlkit_romi.policy.base_policy import Metrics
from offlinerlkit_romi.policy.model_based.leader_follower import Game
from offlinerlkit_romi.policy.model_based.mobile import values

TINY = 1e-8
Tensors = dict[str, torch.Tensor]


@torch.no_grad()
def trajectories(
    policy: Any, starts: ReplayBuffer, game: Game
) -> tuple[Tensors, torch.Tensor, torch.Tensor]:
    """Roll a policy in its own model; a row that ends starts afresh from the data.

    Args:
        policy: has `dynamics`, a stochastic `actor`, `critics` and the `generator` of its actions.
        starts: the data.
        game: how many trajectories, how long.

    Returns:
        Per step, (T, n, .): `obs`, `raw_action` before the squashing and its density `log_prob`;
        `inputs` of the model, its `sample` of [delta obs, reward], that one's density
        `sample_log_prob` and elite `place` (T, n); `reward`, `terminal`, the number `episode` of
        the row's episode and its `age` in steps. Then min_c Q_c of the states passed and of the
        last ones reached, at another action than the one taken, (T+1, n, 1), and at that one.
    """
    dynamics, steps = policy.dynamics, list[Tensors]()
    obs = starts.sample(game.trajectories)["observations"]
    age, episode = torch.zeros_like(obs[:, :1]), torch.zeros_like(obs[:, :1])
    for _ in range(game.trajectory_length):
        step = _acted(policy, obs) | {"obs": obs, "age": age, "episode": episode}
        action = step.pop("action")
        inputs = dynamics.inputs(obs, action)
        sample, log_prob, place = dynamics.draw(inputs)
        next_obs, reward, terminal = dynamics.outcome(obs, action, sample)
        step |= {"inputs": inputs, "sample": sample, "sample_log_prob": log_prob, "place": place}
        steps.append(step | {"reward": reward, "terminal": terminal.to(reward)})
        fresh = starts.sample(game.trajectories)["observations"]
        obs = torch.where(terminal, fresh, next_obs)
        age = torch.where(terminal, 0, age + 1)
        episode = episode + terminal
    last = _acted(policy, obs)
    v, q = (torch.stack([step.pop(name) for step in steps] + [last[name]]) for name in "vq")
    return {name: torch.stack([step[name] for step in steps]) for name in steps[0]}, v, q


def _acted(policy: Any, obs: torch.Tensor) -> Tensors:
    """An action of the policy, its value `q`, and another one's, `v`; (n, S) -> (n, .)."""
    dist = policy.actor(obs)
    action, raw = dist.rsample(dist.noise(policy.generator))
    other, _ = dist.rsample(dist.noise(policy.generator))
    q, v = (values(policy.critics, obs, a).amin(1, keepdim=True) for a in (action, other))
    log_prob = dist.gaussian_log_prob(raw)
    return {"action": action, "raw_action": raw, "log_prob": log_prob, "q": q, "v": v}


def judged(
    steps: Tensors, v: torch.Tensor, q: torch.Tensor, gamma: float, game: Game
) -> tuple[Tensors, Metrics]:
    """The trajectories with `leader_push` and `model_push`, and what was seen in them.

    A push is the discounted, normalised advantage: of the action against `v`, or of the transition
    against `q`, values as from `trajectories`. Their standard deviations' ratio is `scale`, ().
    """
    reward, terminal, age = (steps[name] for name in ("reward", "terminal", "age"))
    if not game.discount_restarts:
        age = torch.arange(len(age)).to(age).view(-1, 1, 1).expand_as(age)
    pushes, sigmas = Tensors(), []
    for name, value in (("leader", v), ("model", q)):
        raw = advantages(reward, terminal, value, gamma, game.gae_lambda)
        sigmas.append(raw.std(correction=0))
        weighted = game.discount_weights in ("both", name)
        weight = gamma**age if weighted else torch.ones_like(age)
        pushes[f"{name}_push"] = weight * normalised(raw, game.normalise)
    pushes["scale"] = sigmas[1] / (sigmas[0] + TINY)
    seen = {
        "return_mean": reward.sum(0).mean(),
        "terminal_share": terminal.mean(),
        "sigma_th": sigmas[0],
        "sigma_ph": sigmas[1],
        "q_mean": q.mean(),
    }
    return steps | pushes, {f"onpolicy/{name}": value for name, value in seen.items()}


def advantages(
    reward: torch.Tensor, terminal: torch.Tensor, value: torch.Tensor, gamma: float, gae: float
) -> torch.Tensor:
    """Generalised advantages, (T, n, 1); nothing leaks over a terminal.

    Args:
        reward: (T, n, 1).
        terminal: 1 where an episode ends after the step, (T, n, 1).
        value: of the states of the steps, and of those they end in, (T+1, n, 1).
        gamma: discount per step.
        gae: weight of longer looks ahead.
    """
    alive = 1 - terminal
    delta = reward + gamma * alive * value[1:] - value[:-1]
    result, following = torch.empty_like(delta), torch.zeros_like(delta[0])
    for t in reversed(range(len(delta))):
        following = delta[t] + gamma * gae * alive[t] * following
        result[t] = following
    return result


def normalised(advantage: torch.Tensor, how: str) -> torch.Tensor:
    """(A - mean) / (std + 1e-8) over all of (T, n, 1), or over n at each time step."""
    over = (0, 1) if how == "all" else 1
    std = advantage.std(over, correction=0, keepdim=True)
    return (advantage - advantage.mean(over, keepdim=True)) / (std + TINY)


def in_reach(
    log_prob: torch.Tensor, old: torch.Tensor, push: torch.Tensor, clip: float
) -> torch.Tensor:
    """1 where PPO's clipped objective has a gradient, a constant (..., 1)."""
    ratio = (log_prob.detach() - old).exp()
    return (push * ratio <= push * ratio.clamp(1 - clip, 1 + clip)).to(push)


def leader_loss(
    log_prob: torch.Tensor, old: torch.Tensor, push: torch.Tensor, clip: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """-mean of mask * push * log pi(a|s), and the mask, both over (T, b, 1).

    Args:
        log_prob: log pi of the recorded actions, with graph.
        old: the same when they were drawn.
        push: discounted, normalised advantage of the action.
        clip: c.
    """
    mask = in_reach(log_prob, old, push, clip)
    return -(mask * push * log_prob).mean(), mask


def adversarial_loss(
    log_prob: torch.Tensor, old: torch.Tensor, push: torch.Tensor, clip: float, side: str = "max"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean of max( push rho, push clip(rho) ), and rho, over the rows (B, 1).

    Descending it makes transitions of low advantage likelier; with `max` a row whose ratio has left
    the range the wrong way is pulled back, and one that has profited enough is left alone.

    Args:
        log_prob: log-density of the recorded samples, with graph.
        old: the same when they were drawn.
        push: discounted, normalised advantage of the transition.
        clip: c.
        side: `max`, or `min` as in the released code.
    """
    ratio = (log_prob - old).exp()
    chosen = torch.maximum if side == "max" else torch.minimum
    return chosen(push * ratio, push * ratio.clamp(1 - clip, 1 + clip)).mean(), ratio
