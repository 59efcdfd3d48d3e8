"""Model updates of RAMBO and ROMI equal the same steps taken by hand, with per-tensor Adam."""

from copy import deepcopy

import pytest
import torch

from offlinerlkit_romi.dynamics.losses import supervised_loss
from offlinerlkit_romi.policy import RAMBOPolicy, ROMIPolicy
from offlinerlkit_romi.policy.model_based.rambo import LOGVAR_LOSS_COEF
from tests.reference import ensemble, rambo, romi
from tests.support.policies import make_batch, make_dynamics, make_policy
from tests.support.scripted import (
    ConstantWeights,
    ScriptedBuffer,
    assert_same_parameters,
    draw,
    plain_adam,
)

ROWS, DRAWS, XI, STEPS = 4, 2, 0.4, 3


def by_hand(policy) -> tuple[RAMBOPolicy, torch.optim.Optimizer]:
    """A copy of the policy and torch's plain Adam on its model."""
    copy = deepcopy(policy)
    model = copy.dynamics.model
    return copy, plain_adam([p for p in model.parameters() if p.requires_grad])


def descend(loss: torch.Tensor, optim: torch.optim.Optimizer) -> None:
    optim.zero_grad()
    loss.backward()
    optim.step()


def batches(count: int) -> list[dict[str, torch.Tensor]]:
    return [make_batch(ROWS, seed=seed, terminals=0.3) for seed in range(count)]


def make_romi(**kwargs) -> ROMIPolicy:
    kwargs.setdefault("adv_train_steps", STEPS)
    return make_policy(
        ROMIPolicy, xi=XI, num_perturbations=DRAWS, adv_rollout_batch_size=ROWS, **kwargs
    )


def outer_noise(copy: ROMIPolicy) -> tuple[torch.Tensor, torch.Tensor]:
    """Member noise (E, B, D) and candidate noise (N, B, S) of one outer loss."""
    members = draw(copy.dynamics.generator, 3, ROWS, 4)
    return members, draw(copy.generator, DRAWS, ROWS, 3)


def ends_high(obs, action, next_obs) -> torch.Tensor:
    return next_obs[..., :1] > 0.5


def test_three_rambo_updates_equal_the_steps_by_hand() -> None:
    dynamics = make_dynamics(weighted=False, terminal_fn=ends_high)
    policy = make_policy(
        RAMBOPolicy,
        dynamics=dynamics,
        adv_weight=0.5,
        adv_train_steps=STEPS,
        adv_rollout_length=2,
        adv_rollout_batch_size=ROWS,
    )
    copy, optim = by_hand(policy)
    # a rollout's start, two updates, the next start, one update
    script = batches(5)
    policy.update_dynamics(ScriptedBuffer(script))
    for start, updates in [(script[0], script[1:3]), (script[3], script[4:])]:
        obs, alive = start["observations"], [True] * ROWS
        for batch in updates:
            obs, alive = rambo_step(copy, optim, obs, alive, batch)
    assert_same_parameters(policy.dynamics.model, copy.dynamics.model)


def test_a_rambo_update_of_weight_zero_is_a_supervised_step_by_hand() -> None:
    """No gradient of the adversarial loss is made, and its value is still told."""
    policy = make_policy(
        RAMBOPolicy, adv_weight=0.0, adv_train_steps=1, adv_rollout_batch_size=ROWS
    )
    copy, optim = by_hand(policy)
    script = batches(2)
    metrics = policy.update_dynamics(ScriptedBuffer(script))
    inputs, target = copy.dynamics.format_samples_for_training(script[1])
    inputs = copy.dynamics.scaler.transform_tensor(inputs)
    descend(supervised_loss(copy.dynamics.model, inputs, target, LOGVAR_LOSS_COEF), optim)
    assert_same_parameters(policy.dynamics.model, copy.dynamics.model)
    assert metrics["adv_dynamics_update/adv_loss"] != 0


def rambo_step(copy, optim, obs, alive, batch):
    """One update; draws are the policy's action noise, then the model's members and noise."""
    model, source = copy.dynamics.model, copy.dynamics.generator
    action = copy.actforward(obs)[0].detach()
    member = torch.randint(len(model.elites), (ROWS,), generator=source)
    noise, sample = draw(source, ROWS, model.output_dim), []
    for i in range(ROWS):
        inputs = ensemble.scaled(copy.dynamics, obs[i], action[i])
        elite = int(model.elites[member[i]])
        mean, logvar = ensemble.member_forward(model, elite, inputs)
        sample.append((mean + torch.exp(logvar).sqrt() * noise[i]).detach())
    next_obs = obs + torch.stack(sample)[:, :-1]
    ended = (next_obs[:, 0] > 0.5).tolist()
    losses = rambo.model_loss(
        copy, obs, action, sample, [float(x) for x in ended], alive, batch, weight=0.5
    )
    descend(losses["all"], optim)
    lives = [a and not e for a, e in zip(alive, ended, strict=True)]
    rows = [next_obs[i] if lives[i] else obs[i] for i in range(ROWS)]
    return torch.stack(rows), lives


@pytest.mark.parametrize("with_reward", [True, False], ids=["with reward", "value alone"])
def test_three_unweighted_romi_updates_equal_the_steps_by_hand(with_reward: bool) -> None:
    policy = make_romi(variant="no_weighting", reward_likelihood=with_reward)
    copy, optim = by_hand(policy)
    script = batches(STEPS)
    policy.update_dynamics(ScriptedBuffer(script))
    outer_noise(copy)  # the loss before the first step draws its noise too
    for batch in script:
        loss = romi.robust_value_loss(copy, batch, *outer_noise(copy), XI)
        descend(loss + ensemble.reward_loss(copy.dynamics, batch) * with_reward, optim)
    assert_same_parameters(policy.dynamics.model, copy.dynamics.model)


def test_three_romi_updates_with_unit_weights_equal_supervised_steps_by_hand() -> None:
    policy = make_romi()
    policy.weighting_net = ConstantWeights()
    policy._weighting_optim = plain_adam(policy.weighting_net.parameters())
    copy, optim = by_hand(policy)
    script = batches(STEPS)
    policy.update_dynamics(ScriptedBuffer(script))
    for batch in script:
        loss = ensemble.weighted_loss(copy.dynamics, batch, [1.0] * ROWS, 0.001)
        descend(loss, optim)
    assert_same_parameters(policy.dynamics.model, copy.dynamics.model)


def test_unit_weights_make_the_inner_step_rambos_without_adversary() -> None:
    romi_policy = make_romi()
    romi_policy.weighting_net = ConstantWeights()
    romi_policy._weighting_optim = plain_adam(romi_policy.weighting_net.parameters())
    rambo_policy = make_policy(RAMBOPolicy, adv_weight=0.0, adv_rollout_batch_size=ROWS)
    assert_same_parameters(romi_policy.dynamics.model, rambo_policy.dynamics.model, 0.0)
    for batch in batches(STEPS):
        romi_policy._exact_update(batch)
        obs = batch["observations"]
        rambo_policy._model_update(obs, torch.ones_like(obs[:, :1]), batch)
    assert_same_parameters(romi_policy.dynamics.model, rambo_policy.dynamics.model, 1e-12)


@pytest.mark.parametrize("weight_input", ["sas", "sa"])
def test_three_release_updates_equal_the_steps_by_hand(weight_input: str) -> None:
    policy = make_romi(variant="release", weight_input=weight_input)
    copy, optim = by_hand(policy)
    outer_optim = plain_adam(copy.weighting_net.parameters())
    script = batches(STEPS)
    policy.update_dynamics(ScriptedBuffer(script))
    outer_noise(copy)  # the loss before the first step draws its noise too
    baseline = None
    for batch in script:
        baseline = release_step(copy, optim, outer_optim, batch, baseline)
    assert_same_parameters(policy.dynamics.model, copy.dynamics.model)
    assert_same_parameters(policy.weighting_net, copy.weighting_net)
    assert policy._baseline.item() == pytest.approx(baseline, rel=1e-9)


def release_step(copy, optim, outer_optim, batch, baseline: float | None) -> float:
    """Inner step without regulariser, rewards of four groups, weights moved by the surrogate."""
    params = copy.dynamics.parameters
    plain = ensemble.weighted_loss(copy.dynamics, batch, [1.0] * ROWS, None)
    grads = torch.autograd.grad(plain, params, allow_unused=True)
    flat = torch.cat([g.reshape(-1) for g in grads if g is not None])
    weights = [romi.weight(copy.weighting_net, batch, i) for i in range(ROWS)]
    values = [w.item() for w in weights]
    descend(ensemble.weighted_loss(copy.dynamics, batch, values, None), optim)
    members, candidates = outer_noise(copy)
    endless = batch | {"terminals": torch.zeros_like(batch["terminals"])}
    rows = []
    for i in range(ROWS):
        next_obs = batch["next_observations"][i]
        points = [romi.relative_point(next_obs, z[i], XI) for z in candidates]
        m = romi.robust_target(copy, next_obs, points)
        rows.append(romi.robust_value_row(copy, endless, i, members[:, i], m))
    rewards = romi.released_rewards(flat, rows, params)
    surrogate = romi.released_surrogate(weights, rewards, baseline or 0.0)
    descend(surrogate, outer_optim)
    return romi.moved_baseline(baseline, rewards)
