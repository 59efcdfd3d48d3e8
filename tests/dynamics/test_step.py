"""One model step: routing rows to elites, noise, penalties, and the numpy border."""

import numpy as np
import pytest
import torch

from offlinerlkit_romi.dynamics import EnsembleDynamics
from tests.reference import ensemble
from tests.support.policies import FLOAT64, generator, make_batch, make_dynamics
from tests.support.scripted import draw, twin


def make(elites=(3, 1, 4), members: int = 5, **kwargs) -> EnsembleDynamics:
    dynamics = make_dynamics(members=members, elites=len(elites), **kwargs)
    dynamics.model.set_elites(list(elites))
    return dynamics


def drawn_members(dynamics: EnsembleDynamics, source: torch.Generator, rows: int) -> list[int]:
    """The member of every row: slots in random order, an equal share of slots per elite."""
    elites = dynamics.model.elites.tolist()
    share = -(-rows // len(elites))
    slots = torch.randperm(len(elites) * share, generator=source)[:rows]
    return [elites[int(slot) // share] for slot in slots]


@pytest.mark.parametrize("rows", [1, 2, 3, 10])
@pytest.mark.parametrize("penalty_coef", [0.0, 0.7])
def test_routed_step_equals_the_row_loop(rows: int, penalty_coef: float) -> None:
    dynamics, batch = make(penalty_coef=penalty_coef), make_batch(rows)
    obs, action = batch["observations"], batch["actions"]
    source = twin(dynamics.generator)
    next_obs, reward, terminal, info = dynamics.sample_step(obs, action)
    members, noise = drawn_members(dynamics, source, rows), draw(source, rows, 4)
    for i, member in enumerate(members):
        inputs = ensemble.scaled(dynamics, obs[i], action[i])
        mean, logvar = ensemble.member_forward(dynamics.model, member, inputs)
        sample = (mean + torch.exp(logvar).sqrt() * noise[i]).detach()
        torch.testing.assert_close(next_obs[i], obs[i] + sample[:-1], rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(info["raw_reward"][i], sample[-1:], rtol=1e-10, atol=1e-12)
    assert terminal.dtype == torch.bool and terminal.shape == reward.shape == (rows, 1)
    if penalty_coef:
        expected = info["raw_reward"] - penalty_coef * info["penalty"]
        torch.testing.assert_close(reward, expected, rtol=0, atol=0)
    else:
        assert torch.equal(reward, info["raw_reward"]) and "penalty" not in info


def test_a_penalty_changes_rewards_but_not_the_draws() -> None:
    batch = make_batch(10)
    args = batch["observations"], batch["actions"]
    free, charged = make().sample_step(*args), make(penalty_coef=0.5).sample_step(*args)
    for plain, penalised in zip(free[:3:2], charged[:3:2], strict=True):
        torch.testing.assert_close(plain, penalised, rtol=1e-10, atol=1e-12)


def test_penalty_of_a_step_is_over_all_members() -> None:
    dynamics, batch = make(elites=(0, 1), penalty_coef=1.0), make_batch(6)
    info = dynamics.sample_step(batch["observations"], batch["actions"])[3]
    outputs = [
        [
            ensemble.member_forward(
                dynamics.model, e, ensemble.scaled(dynamics, batch["observations"][i], a)
            )
            for i, a in enumerate(batch["actions"])
        ]
        for e in range(5)
    ]
    means, logvars = (
        np.array([[pair[k].detach().numpy() for pair in member] for member in outputs])
        for k in (0, 1)
    )
    expected = ensemble.penalty("aleatoric", means, logvars)
    np.testing.assert_allclose(info["penalty"][:, 0].numpy(), expected, rtol=1e-10)


def tagged(elites, members: int = 5) -> EnsembleDynamics:
    """Every member predicts its own number as the reward, almost without noise."""
    dynamics = make(elites, members)
    with torch.no_grad():
        for layer in dynamics.model.layers:
            layer.weight.zero_()
            layer.bias.zero_()
        dynamics.model.output_layer.bias[:, 0, 3] = torch.arange(members, dtype=FLOAT64)
        dynamics.model.min_logvar.fill_(-30.0)
        dynamics.model.output_layer.bias[:, 0, 4:] = -20.0
    return dynamics


@pytest.mark.parametrize("rows", [7, 64])
def test_every_row_gets_a_uniformly_drawn_elite_and_no_other_member(rows: int) -> None:
    elites, repeats = (3, 1, 4), 1500
    dynamics = tagged(elites)
    obs, action = torch.zeros(rows, 3, dtype=FLOAT64), torch.zeros(rows, 2, dtype=FLOAT64)
    chosen = torch.stack(
        [dynamics.sample_step(obs, action)[1].round().long() for _ in range(repeats)]
    )
    assert set(chosen.unique().tolist()) == set(elites)
    # (repeats, rows, 1) -> share of every elite at every row position
    for elite in elites:
        share = (chosen == elite).double().mean(0)
        assert (share - 1 / 3).abs().max() < 5 * (2 / 9 / repeats) ** 0.5


def test_elites_share_the_rows_evenly() -> None:
    dynamics = tagged((3, 1, 4))
    obs, action = torch.zeros(64, 3, dtype=FLOAT64), torch.zeros(64, 2, dtype=FLOAT64)
    counts = torch.bincount(dynamics.sample_step(obs, action)[1].round().long().flatten())
    assert max(counts[[1, 3, 4]]) <= 22


def test_rows_with_the_same_elite_are_independent_draws() -> None:
    dynamics = make(elites=(2,))
    obs, action = torch.zeros(2000, 3, dtype=FLOAT64), torch.zeros(2000, 2, dtype=FLOAT64)
    next_obs = dynamics.sample_step(obs, action)[0]
    mean, logvar = dynamics.model(dynamics.inputs(obs[:1], action[:1]))
    std = torch.exp(0.5 * logvar[2, 0, :3])
    z = ((next_obs - mean[2, 0, :3]) / std).detach()
    assert z.mean(0).abs().max() < 0.12 and (z.std(0) - 1).abs().max() < 0.1
    assert (torch.corrcoef(z.T) - torch.eye(3)).abs().max() < 0.12


def test_samples_of_all_elites_have_each_elites_mean_and_spread() -> None:
    dynamics, batch = make(), make_batch(2)
    obs, action = batch["observations"], batch["actions"]
    samples = dynamics.sample_next_obss(obs, action, 4000)
    assert samples.shape == (4000, 3, 2, 3)
    mean, logvar = dynamics.model(dynamics.inputs(obs, action))
    for slot, elite in enumerate((3, 1, 4)):
        std = torch.exp(0.5 * logvar[elite, :, :3])
        expected = obs + mean[elite, :, :3]
        assert ((samples[:, slot].mean(0) - expected) / std).abs().max() < 0.1
        assert (samples[:, slot].std(0) / std - 1).abs().max() < 0.1


def test_numpy_step_is_the_tensor_step() -> None:
    batch = make_batch(5, dtype=torch.float32)
    pair = [make(dtype=torch.float32, penalty_coef=0.5) for _ in range(2)]
    arrays = pair[0].step(batch["observations"].numpy(), batch["actions"].numpy())
    tensors = pair[1].sample_step(batch["observations"], batch["actions"])
    for array, tensor in zip(arrays[:3], tensors[:3], strict=True):
        assert isinstance(array, np.ndarray)
        np.testing.assert_array_equal(array, tensor.numpy())
    assert arrays[3].keys() == tensors[3].keys() == {"raw_reward", "penalty"}


def test_terminal_rule_sees_the_transition() -> None:
    seen = {}

    def rule(obs, action, next_obs) -> torch.Tensor:
        seen.update(obs=obs, action=action, next_obs=next_obs)
        return next_obs[:, :1] > obs[:, :1]

    batch = make_batch(9)
    next_obs, _, terminal, _ = make(terminal_fn=rule).sample_step(
        batch["observations"], batch["actions"]
    )
    assert seen["obs"] is batch["observations"] and seen["next_obs"] is next_obs
    assert torch.equal(terminal, next_obs[:, :1] > batch["observations"][:, :1])


def test_unknown_uncertainty_is_refused() -> None:
    with pytest.raises(ValueError, match="uncertainty_mode"):
        make(uncertainty_mode="epistemic")


def test_a_step_leaves_no_graph() -> None:
    batch = make_batch(3)
    outputs = make(generator=generator(1)).sample_step(batch["observations"], batch["actions"])
    assert not any(x.requires_grad for x in outputs[:3])
