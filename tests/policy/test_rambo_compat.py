"""What compat="kit" turns back on in RAMBO; tests/upstream compares it with the kit."""

import pytest
import torch

from offlinerlkit_romi.dynamics.losses import mixture_log_prob
from offlinerlkit_romi.policy import RAMBOPolicy
from offlinerlkit_romi.policy.model_based.rambo import underflowing_mixture_log_prob
from tests.support.policies import FLOAT64, make_batch, make_dynamics, make_policy
from tests.support.scripted import ScriptedBuffer


def make_rambo(**kwargs) -> RAMBOPolicy:
    dynamics = make_dynamics(weighted=False, terminal_fn=lambda o, a, n: n[..., :1] > 0)
    return make_policy(RAMBOPolicy, dynamics=dynamics, adv_weight=0.3, **kwargs)


def kit_loop(steps: int, length: int) -> int:
    """Updates per call of the kit's two nested loops; its break leaves the inner one alone."""
    done = 0
    while done < steps:
        for _ in range(length):
            done += 1
            if done == 1000:
                break
    return done


@pytest.mark.parametrize("length", [1, 3, 5, 7])
@pytest.mark.parametrize("steps", [1, 2, 10, 998, 1000, 1001, 2500])
def test_the_kit_finishes_its_rollouts_and_we_stop_when_told(steps: int, length: int) -> None:
    sizes = dict(adv_train_steps=steps, adv_rollout_length=length)
    assert sum(make_rambo(**sizes)._rounds()) == steps
    assert sum(make_rambo(**sizes, compat="kit")._rounds()) == kit_loop(steps, length)


def test_rows_go_on_beyond_terminals_in_the_kit_alone() -> None:
    obs, alive = make_batch(8, seed=1)["observations"], torch.ones(8, 1, dtype=FLOAT64)
    for compat, dies in [("paper", True), ("kit", False)]:
        policy = make_rambo(compat=compat)
        _, next_obs, survives = policy._model_update(obs, alive, make_batch(8, seed=2))
        assert bool((survives == 0).any()) == dies
        assert bool((next_obs == obs).all(-1).any()) == dies


def test_the_kits_mixture_agrees_until_it_underflows() -> None:
    usual = torch.linspace(-30, 5, 12, dtype=FLOAT64).view(3, 4)
    torch.testing.assert_close(underflowing_mixture_log_prob(usual), mixture_log_prob(usual))
    far = torch.full((3, 1), -800.0, dtype=FLOAT64)
    assert underflowing_mixture_log_prob(far).item() == -torch.inf
    assert mixture_log_prob(far).item() == pytest.approx(-800.0)


def test_the_kit_clones_whole_batches_in_order() -> None:
    kit, paper = make_rambo(compat="kit"), make_rambo()
    rows = kit._cloning_order(11, 4, torch.device("cpu"))
    assert [x.tolist() for x in rows] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    rows = torch.cat(paper._cloning_order(11, 4, torch.device("cpu"))).tolist()
    assert sorted(rows) == list(range(11)) != rows


def test_model_updates_stay_finite_beyond_terminals() -> None:
    policy = make_rambo(compat="kit", adv_train_steps=5)
    metrics = policy.update_dynamics(ScriptedBuffer([make_batch(8, seed=s) for s in range(8)]))
    assert all(torch.isfinite(torch.tensor(value)) for value in metrics.values())
