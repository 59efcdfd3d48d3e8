"""Actors, critics, distributions, the ensemble and the weighting net equal their definitions."""

import math

import numpy as np
import pytest
import torch
from torch import distributions as td
from torch import nn

from offlinerlkit_romi.modules import (
    Actor,
    ActorProb,
    Critic,
    DiagGaussian,
    EnsembleCritic,
    EnsembleDynamicsModel,
    NormalWrapper,
    TanhDiagGaussian,
    TanhNormalWrapper,
    WeightingNet,
)
from offlinerlkit_romi.modules.dynamics_module import forward_recorded
from offlinerlkit_romi.nets import MLP
from tests.reference import ensemble, sac
from tests.support.policies import FLOAT64, generator, make_batch, make_dynamics
from tests.support.scripted import draw

BACKBONE = [f"backbone.model.{k}.{name}" for k in (0, 2) for name in ("weight", "bias")]
# names in the kit's checkpoints, for two hidden layers
KIT_NAMES = {
    "squashed actor": (
        ActorProb(MLP(3, (6, 5)), TanhDiagGaussian(5, 2, conditioned_sigma=True)),
        [*BACKBONE, *(f"dist_net.{k}.{n}" for k in ("mu", "sigma") for n in ("weight", "bias"))],
    ),
    "gaussian actor": (
        ActorProb(MLP(3, (6, 5)), DiagGaussian(5, 2)),
        [*BACKBONE, "dist_net.mu.weight", "dist_net.mu.bias", "dist_net.sigma_param"],
    ),
    "actor": (Actor(MLP(3, (6, 5)), 2), [*BACKBONE, "last.weight", "last.bias"]),
    "critic": (Critic(MLP(5, (6, 5))), [*BACKBONE, "last.weight", "last.bias"]),
    "ensemble critic": (
        EnsembleCritic(3, 2, (4,)),
        [
            f"model.{k}.{n}"
            for k in (0, 2)
            for n in ("weight", "bias", "saved_weight", "saved_bias")
        ],
    ),
}


@pytest.mark.parametrize(("module", "names"), KIT_NAMES.values(), ids=KIT_NAMES.keys())
def test_state_dict_has_the_kits_names(module: nn.Module, names: list[str]) -> None:
    assert set(module.state_dict()) == set(names)


def gaussian(rows: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    return draw(generator(1), rows, 2), draw(generator(2), rows, 2).exp()


def test_normal_equals_torch_distributions() -> None:
    loc, scale = gaussian()
    ours, theirs = NormalWrapper(loc, scale), td.Independent(td.Normal(loc, scale), 1)
    x = draw(generator(3), 6, 2)
    torch.testing.assert_close(ours.log_prob(x)[:, 0], theirs.log_prob(x), rtol=1e-12, atol=0)
    torch.testing.assert_close(ours.entropy(), theirs.entropy(), rtol=1e-12, atol=0)
    assert torch.equal(ours.mode(), loc)
    assert torch.equal(ours.rsample(x), loc + scale * x)


@pytest.mark.parametrize("max_action", [1.0, 0.4])
def test_squashed_normal_equals_torch_distributions_but_for_its_epsilon(max_action: float) -> None:
    loc, scale = gaussian()
    loc, scale = 0.3 * loc, 0.3 * scale
    ours = TanhNormalWrapper(loc, scale, max_action)
    parts = [td.TanhTransform(cache_size=1), td.AffineTransform(0.0, max_action, cache_size=1)]
    theirs = td.Independent(td.TransformedDistribution(td.Normal(loc, scale), parts), 1)
    action, raw = ours.rsample(draw(generator(3), 6, 2))
    expected = theirs.log_prob(action)
    # the 1e-6 inside the logarithm is the kit's; at these actions it moves the log by 1e-4 at most
    torch.testing.assert_close(ours.log_prob(action, raw)[:, 0], expected, rtol=0, atol=1e-4)


def test_squashed_density_needs_no_raw_action() -> None:
    ours = TanhNormalWrapper(*gaussian(), 0.4)
    action, raw = ours.rsample(0.5 * draw(generator(3), 6, 2))
    torch.testing.assert_close(ours.log_prob(action), ours.log_prob(action, raw), rtol=1e-5, atol=0)


def test_squashed_density_is_finite_at_the_edge_of_the_box() -> None:
    ours = TanhNormalWrapper(torch.zeros(1, 2), torch.ones(1, 2), 1.0)
    assert ours.log_prob(torch.tensor([[1.0, -1.0]])).isfinite().all()


def test_squashed_density_equals_the_row_loop() -> None:
    torch.manual_seed(0)
    head = TanhDiagGaussian(5, 2, unbounded=True, conditioned_sigma=True, max_mu=0.7)
    actor = ActorProb(MLP(3, (6, 5)), head).double()
    obs, noise = draw(generator(4), 6, 3), draw(generator(5), 6, 2)
    dist = actor(obs)
    action, raw = dist.rsample(noise)
    log_prob = dist.log_prob(action, raw)
    for i in range(6):
        slow_action, slow_log_prob = sac.squashed_sample(actor, obs[i], noise[i], 0.7)
        torch.testing.assert_close(action[i], slow_action, rtol=1e-12, atol=0)
        assert log_prob[i].item() == pytest.approx(slow_log_prob.item(), rel=1e-10)


def test_samples_have_no_graph_and_follow_their_generator() -> None:
    loc, scale = (x.requires_grad_() for x in gaussian())
    dist = TanhNormalWrapper(loc, scale, 1.0)
    pair = [dist.sample(generator(7)) for _ in range(2)]
    assert torch.equal(pair[0][0], pair[1][0]) and not pair[0][0].requires_grad
    assert dist.rsample(generator=generator(7))[0].requires_grad


def test_bounded_mean_and_clamped_spread() -> None:
    torch.manual_seed(0)
    head = DiagGaussian(4, 2, conditioned_sigma=True, max_mu=0.3, sigma_min=-1.0, sigma_max=0.5)
    dist = head(1000 * torch.randn(50, 4))
    assert dist.mean.abs().max() <= 0.3
    assert dist.stddev.log().min() >= -1 - 1e-6 and dist.stddev.log().max() <= 0.5 + 1e-6
    free = DiagGaussian(4, 2, unbounded=True)
    with torch.no_grad():
        free.sigma_param.copy_(torch.tensor([[7.0], [-9.0]]))
    torch.testing.assert_close(free(torch.randn(3, 4)).stddev[2].log(), torch.tensor([7.0, -9.0]))


def test_critics_take_states_or_states_and_actions() -> None:
    torch.manual_seed(0)
    batch = make_batch(4)
    obs, action = batch["observations"], batch["actions"]
    critic = Critic(MLP(5, (6,))).double()
    for i in range(4):
        assert critic(obs, action)[i].item() == pytest.approx(
            sac.q(critic, obs[i], action[i]).item()
        )
    assert Critic(MLP(3, (6,))).double()(obs).shape == (4, 1)
    assert critic(obs.numpy(), action.numpy()).shape == (4, 1)
    crowd = EnsembleCritic(3, 2, (6,), num_ensemble=5).double()
    assert crowd(obs, action).shape == (5, 4, 1)


def test_actor_stays_in_its_box() -> None:
    actor = Actor(MLP(3, (6,)), 2, max_action=0.3)
    assert actor(100 * np.ones((4, 3))).abs().max() <= 0.3


def test_ensemble_equals_the_member_by_row_loop() -> None:
    model, x = make_dynamics().model, draw(generator(6), 5, 5)
    mean, logvar = model(x)
    for member in range(3):
        for i in range(5):
            slow = ensemble.member_forward(model, member, x[i])
            torch.testing.assert_close(mean[member, i], slow[0], rtol=1e-10, atol=1e-14)
            torch.testing.assert_close(logvar[member, i], slow[1], rtol=1e-10, atol=1e-14)


def test_chosen_members_and_recorded_pass_equal_the_whole_ensemble() -> None:
    model, x, members = make_dynamics().model, draw(generator(6), 5, 5), torch.tensor([2, 0])
    whole, chosen = model(x), model.forward_members(x.expand(2, 5, 5), members)
    mean, logvar, calls = forward_recorded(model, x)
    for k in (0, 1):
        torch.testing.assert_close(chosen[k], whole[k][members], rtol=1e-12, atol=1e-14)
        assert torch.equal((mean, logvar)[k], whole[k])
    assert [layer for layer, _, _ in calls] == model.layers
    for layer, inputs, output in calls:
        assert torch.equal(layer(inputs), output)


def test_decay_sums_the_layers_own_factors() -> None:
    model = make_dynamics().model
    squares = [layer.weight.square().sum().item() for layer in model.layers]
    expected = sum(0.005 * (k + 1) * s for k, s in enumerate(squares))
    assert model.get_decay_loss().item() == pytest.approx(expected, rel=1e-12)


def test_elites_are_checked_and_drawn_uniformly() -> None:
    model = make_dynamics(members=5).model
    model.set_elites([4, 2])
    counts = torch.bincount(model.random_elite_idxs(4000, generator(1)), minlength=5)
    assert counts[[0, 1, 3]].sum() == 0 and abs(int(counts[4]) - 2000) < 160
    for bad in ([5], [-1], [], [0, 1, 2, 3, 4, 0]):
        with pytest.raises(ValueError, match="elites"):
            model.set_elites(bad)
    assert model.elites.tolist() == [4, 2]


def test_weight_decays_must_match_the_layers() -> None:
    with pytest.raises(ValueError, match="3 layers, but 2"):
        EnsembleDynamicsModel(3, 2, (4, 4), weight_decays=[0.1, 0.1])


@pytest.mark.parametrize("bounds", [(0.5, 2.0), (0.9, 1.1)])
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_weights_lie_between_the_bounds(bounds, scale: float) -> None:
    torch.manual_seed(0)
    net, batch = WeightingNet(3, 2, (8,), bounds), make_batch(64, dtype=torch.float32)
    weights = net(scale * batch["observations"], batch["actions"], batch["next_observations"])
    assert weights.shape == (64, 1)
    assert weights.min() >= bounds[0] and weights.max() <= bounds[1]


def test_fresh_weights_start_near_the_middle_of_the_range() -> None:
    torch.manual_seed(0)
    net, batch = WeightingNet(3, 2), make_batch(64, dtype=torch.float32)
    mean = net(batch["observations"], batch["actions"], batch["next_observations"]).mean()
    assert mean.item() == pytest.approx(1.25, abs=0.1)


def test_weighting_net_reads_the_inputs_it_is_told_to() -> None:
    batch = make_batch(4, dtype=torch.float32)
    obs, action, next_obs = (batch[k] for k in ("observations", "actions", "next_observations"))
    with_next, without = WeightingNet(3, 2, (8,)), WeightingNet(3, 2, (8,), weight_input="sa")
    assert not torch.equal(with_next(obs, action, next_obs), with_next(obs, action, 2 * next_obs))
    assert torch.equal(without(obs, action, next_obs), without(obs, action, 2 * next_obs))
    assert with_next.net.model[0].in_features == 8 and without.net.model[0].in_features == 5


@pytest.mark.parametrize(
    "options", [{"weight_input": "s"}, {"weight_range": (2.0, 0.5)}, {"weight_range": (0.0, 2.0)}]
)
def test_weighting_net_refuses_what_makes_no_sense(options) -> None:
    with pytest.raises(ValueError, match="weight"):
        WeightingNet(3, 2, **options)


def test_log_density_constant() -> None:
    standard = NormalWrapper(torch.zeros(1, 1, dtype=FLOAT64), torch.ones(1, 1, dtype=FLOAT64))
    density = standard.log_prob(torch.zeros(1, 1, dtype=FLOAT64)).item()
    assert density == pytest.approx(-0.5 * math.log(2 * math.pi), rel=1e-15)
