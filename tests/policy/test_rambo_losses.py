"""RAMBO's adversarial step equals its row-by-row float64 restatement."""

import pytest
import torch

from offlinerlkit_romi.policy import RAMBOPolicy
from offlinerlkit_romi.policy.model_based.rambo import adversarial_loss, standardise
from tests.reference import rambo
from tests.support.policies import FLOAT64, generator, make_batch, make_dynamics, make_policy
from tests.support.scripted import draw

ROWS = 6


def upper_half(obs, action, next_obs) -> torch.Tensor:
    """Ends an episode where the first coordinate is positive."""
    return next_obs[..., :1] > 0


def make_rambo(**kwargs) -> RAMBOPolicy:
    dynamics = make_dynamics(weighted=False, members=4, elites=3, terminal_fn=upper_half)
    dynamics.model.set_elites([3, 0, 2])
    policy = make_policy(RAMBOPolicy, dynamics=dynamics, **kwargs)
    with torch.no_grad():  # values here come from the online critics: make the slow ones differ
        for p in [*policy.critic1_old.parameters(), *policy.critic2_old.parameters()]:
            p.add_(0.3)
    return policy


def update_both_ways(policy: RAMBOPolicy, alive: list[bool], **reference):
    """Metrics of one package update and the restated losses on the same rows and sample."""
    obs = make_batch(ROWS, seed=1)["observations"]
    batch = make_batch(ROWS, seed=2)
    sample = draw(generator(5), ROWS, 4)
    policy._sample_elite = lambda mean, logvar: sample  # type: ignore[method-assign]
    state = policy.generator.get_state()
    action = policy.actforward(obs)[0].detach()
    policy.generator.set_state(state)
    terminal = (obs + sample[:, :-1])[:, 0] > 0
    slow = rambo.model_loss(
        policy, obs, action, sample, terminal.double().tolist(), alive, batch, **reference
    )
    living = torch.tensor(alive, dtype=FLOAT64).unsqueeze(-1)
    metrics, next_obs, alive_next = policy._model_update(obs, living, batch)
    survives = torch.tensor(alive) & ~terminal
    assert torch.equal(alive_next.squeeze(-1).bool(), survives)
    assert torch.equal(next_obs[survives], (obs + sample[:, :-1])[survives])
    return {name.split("/")[1]: value.item() for name, value in metrics.items()}, slow


@pytest.mark.parametrize(
    "alive",
    [[True] * ROWS, [True, False] * 3, [False, True] + [False] * 4, [False] * ROWS],
    ids=["all alive", "half alive", "one alive", "none alive"],
)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_model_losses_equal_the_row_loop(alive: list[bool], reduction: str) -> None:
    policy = make_rambo(adv_weight=0.3, adv_reduction=reduction)
    fast, slow = update_both_ways(policy, alive, weight=0.3, reduction=reduction)
    for name, key in [("adv_loss", "adv"), ("sl_loss", "sl"), ("all_loss", "all")]:
        assert fast[name] == pytest.approx(slow[key].item(), rel=1e-10, abs=1e-12), name


def test_entropy_enters_the_adversarial_value_when_asked() -> None:
    policy = make_rambo(adv_weight=0.3, include_ent_in_adv=True)
    alpha = float(policy._alpha)
    fast, slow = update_both_ways(policy, [True] * ROWS, weight=0.3, entropy_weight=alpha)
    assert fast["adv_loss"] == pytest.approx(slow["adv"].item(), rel=1e-10)


def test_advantage_is_standardised_over_living_rows_alone() -> None:
    x = draw(generator(0), 8, 1)
    alive = torch.tensor([1, 1, 0, 1, 0, 1, 1, 1], dtype=FLOAT64).unsqueeze(-1)
    fast = (standardise(x, alive) * alive).squeeze(-1).tolist()
    slow = rambo.standardise(x.squeeze(-1).tolist(), alive.bool().squeeze(-1).tolist())
    assert fast == pytest.approx(slow, rel=1e-10)
    x[2], x[4] = 1e6, -1e6
    assert (standardise(x, alive) * alive).squeeze(-1).tolist() == pytest.approx(slow, rel=1e-10)


def test_one_living_row_has_no_advantage() -> None:
    alive = torch.tensor([[0.0], [1.0]], dtype=FLOAT64)
    x = torch.tensor([[3.0], [7.0]], dtype=FLOAT64)
    assert (standardise(x, alive) * alive).abs().max() == 0


def test_descending_the_adversarial_loss_makes_low_value_successors_likelier() -> None:
    log_prob = torch.zeros(2, 1, dtype=FLOAT64, requires_grad=True)
    advantage = torch.tensor([[1.0], [-1.0]], dtype=FLOAT64)
    loss = adversarial_loss(log_prob, advantage, torch.ones_like(advantage), "mean")
    (grad,) = torch.autograd.grad(loss, log_prob)
    assert grad[0] > 0 > grad[1]  # descent lowers the first row's likelihood, raises the second's


def test_adversarial_samples_come_from_elites_alone_and_uniformly() -> None:
    policy = make_rambo()
    members, rows = 3, 3000
    mean = torch.arange(members, dtype=FLOAT64).view(-1, 1, 1).expand(members, rows, 4) * 100
    logvar = torch.zeros(members, rows, 4, dtype=FLOAT64)
    sample = policy._sample_elite(mean, logvar)
    chosen = (sample / 100).round()
    assert torch.equal(chosen, chosen[:, :1].expand_as(chosen))  # one member per row, all dims
    counts = torch.bincount(chosen[:, 0].long(), minlength=members)
    assert (counts - rows / members).abs().max() < 5 * (rows * 2 / 9) ** 0.5
    noise = sample - 100 * chosen
    assert abs(noise.mean().item()) < 0.05 and abs(noise.std().item() - 1) < 0.05


def test_dead_rows_stay_where_they_died() -> None:
    """Rolled on beyond its terminal a row could overflow, and a masked infinity is a NaN."""
    policy = make_rambo(adv_weight=0.3)
    obs = make_batch(ROWS, seed=1)["observations"]
    alive = torch.ones(ROWS, 1, dtype=FLOAT64)
    for step in range(6):
        _, next_obs, next_alive = policy._model_update(obs, alive, make_batch(ROWS, seed=step))
        dead = next_alive.squeeze(-1) == 0
        assert torch.equal(next_obs[dead], obs[dead])
        obs, alive = next_obs, next_alive
    assert dead.any()
