"""The maximum-likelihood fit: split, bootstrap, stop, best weights, elites; and it learns."""

import gc
import weakref
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from offlinerlkit_romi.dynamics import EnsembleDynamics, FitProgress
from offlinerlkit_romi.dynamics.fit import EnsembleFit, holdout_split
from offlinerlkit_romi.engine import Engine
from offlinerlkit_romi.errors import UserError
from tests.reference import ensemble
from tests.support.policies import generator, make_dynamics
from tests.support.recording import RecordedGraphs
from tests.support.stopping import before


def linear_system(rows: int = 200, noise: float = 0.0, seed: int = 0) -> dict[str, np.ndarray]:
    """s' = s + A s + B a, r = c s: what a small ensemble can learn quickly."""
    rng = np.random.default_rng(seed)
    obs, action = rng.normal(size=(rows, 3)), rng.uniform(-1, 1, size=(rows, 2))
    delta = obs @ (0.2 * rng.normal(size=(3, 3))) + action @ rng.normal(size=(2, 3))
    delta = delta + noise * rng.normal(size=delta.shape)
    return {
        "observations": obs.astype(np.float32),
        "actions": action.astype(np.float32),
        "next_observations": (obs + delta).astype(np.float32),
        "rewards": (obs @ rng.normal(size=(3, 1))).astype(np.float32),
        "terminals": np.zeros((rows, 1), np.float32),
    }


def make(members: int = 4, elites: int = 2, lr: float = 5e-3, **kwargs) -> EnsembleDynamics:
    dynamics = make_dynamics(members=members, elites=elites, dtype=torch.float32, **kwargs)
    for group in dynamics.optim.param_groups:
        group["lr"] = lr
    return dynamics


def make_fit(
    dynamics: EnsembleDynamics,
    rows: int = 40,
    batch_size: int = 16,
    kind: type[EnsembleFit] = EnsembleFit,
) -> EnsembleFit:
    g = generator(3)
    train = torch.randn(rows, 5, generator=g), torch.randn(rows, 4, generator=g)
    holdout = torch.randn(10, 5, generator=g), torch.randn(10, 4, generator=g)
    return kind(dynamics.model, dynamics.optim, train, holdout, batch_size, 0.01, generator(4))


@pytest.mark.parametrize("graphs", [None, RecordedGraphs(), RecordedGraphs(refused_after=0)])
def test_a_fits_copy_of_the_data_is_gone_when_it_ends(graphs) -> None:
    """By reference count alone: a run's collector looks at nothing made before it."""
    dynamics, seen = make(), []
    dynamics.engine = Engine(graphs)

    def watch(fit, *_):
        seen.extend(weakref.ref(x) for x in (fit, *fit.train, *fit.holdout, fit.rows))

    gc.collect()
    gc.disable()
    try:
        with before(EnsembleFit, "run", watch):
            dynamics.train(linear_system(), max_epochs=1, batch_size=32)
        assert [x() for x in seen] == [None] * 6
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("n", "ratio", "held_out"), [(100, 0.2, 20), (7, 0.2, 1), (9000, 0.2, 1000), (4, 0.2, 0)]
)
def test_hold_out_is_the_rounded_share_at_most_1000(n: int, ratio: float, held_out: int) -> None:
    train, holdout = holdout_split(n, ratio, generator(0), torch.device("cpu"))
    assert len(holdout) == held_out
    assert torch.equal(torch.cat([train, holdout]).sort().values, torch.arange(n))


def test_members_train_on_bootstrap_samples_of_their_own() -> None:
    fit = make_fit(make())
    assert fit.rows.shape == (4, 40) and fit.rows.min() >= 0 and fit.rows.max() < 40
    samples = fit.rows.sort(1).values
    for a in range(4):
        assert len(samples[a].unique()) < 40  # drawn with replacement
        assert not any(torch.equal(samples[a], samples[b]) for b in range(a))


def test_an_epoch_visits_every_bootstrap_row_once_in_a_new_order() -> None:
    fit = make_fit(make())
    before, seen = fit.rows.clone(), []
    fit.step = lambda rows: seen.append(rows) or torch.zeros(())  # type: ignore[method-assign]
    fit.run(1, 5, lambda progress: None)
    assert [rows.shape[1] for rows in seen] == [16, 16, 8]
    visited = torch.cat(seen, dim=1)
    assert torch.equal(visited.sort(1).values, before.sort(1).values)
    assert not torch.equal(visited, before)


def test_a_step_is_one_adam_step_on_each_members_own_rows() -> None:
    dynamics = make_dynamics()
    fit = make_fit(dynamics)
    fit.train = fit.train[0].double(), fit.train[1].double()
    rows = fit.rows[:, :5]
    total = ensemble.regulariser(dynamics.model, 0.01)
    for member in range(3):
        for i in rows[member]:
            nll = ensemble.row_nll(dynamics.model, member, fit.train[0][i], fit.train[1][i])
            total = total + nll / 5
    assert fit.step(rows).item() == pytest.approx(total.item(), rel=1e-10)


class Scripted(EnsembleFit):
    """A fit whose hold-out errors are decided here; its weights are the epoch number."""

    errors: Iterator[list[float]]
    epochs = 0

    def step(self, rows: torch.Tensor) -> torch.Tensor:
        return torch.zeros(())

    def holdout_errors(self) -> torch.Tensor:
        self.epochs += 1
        with torch.no_grad():
            for layer in self.model.layers:
                layer.weight.fill_(self.epochs)
                layer.bias.fill_(self.epochs)
        return torch.tensor(next(self.errors))


def scripted_errors(errors: list[list[float]]) -> tuple[EnsembleFit, list[FitProgress]]:
    fit = make_fit(make(members=2, elites=1), kind=Scripted)
    fit.errors = iter(errors)  # type: ignore[attr-defined]
    return fit, []


def test_fit_stops_after_the_patience_without_one_percent_gain() -> None:
    # 0.995 is less than 1 % better than 1.0; epoch 4 brings member 1 a real gain
    errors = [[1.0, 1.0], [0.995, 1.0], [0.992, 1.1], [0.991, 0.5], [9.0, 9.0]]
    errors += [[9.0, 9.0], [9.0, 9.0], [0.0, 0.0]]
    fit, seen = scripted_errors(errors)
    best = fit.run(None, 3, seen.append)
    assert [p.epoch for p in seen] == [1, 2, 3, 4, 5, 6, 7]
    assert [p.epochs_since_update for p in seen] == [0, 1, 2, 0, 1, 2, 3]
    assert best.tolist() == [1.0, 0.5]


def test_small_gains_add_up_against_the_best_kept_error() -> None:
    fit, seen = scripted_errors([[1.0, 1.0], [0.995, 2.0], [0.985, 2.0]])
    assert fit.run(3, 5, seen.append).tolist() == pytest.approx([0.985, 1.0])


def test_max_epochs_ends_the_fit() -> None:
    fit, seen = scripted_errors([[1.0 / k, 1.0 / k] for k in range(1, 9)])
    fit.run(4, 5, seen.append)
    assert len(seen) == 4


def test_every_members_best_weights_come_back() -> None:
    fit, seen = scripted_errors([[1.0, 3.0], [2.0, 2.0], [2.0, 1.0], [2.0, 2.0]])
    fit.run(4, 5, seen.append)
    fit.model.load_save()
    for layer in fit.model.layers:
        assert (layer.weight[0] == 1).all() and (layer.weight[1] == 3).all()
        assert (layer.bias[0] == 1).all() and (layer.bias[1] == 3).all()


def test_a_diverged_member_keeps_its_last_good_weights() -> None:
    fit, seen = scripted_errors([[1.0, 1.0], [float("nan"), 0.5], [float("nan"), 0.4]])
    assert fit.run(3, 5, seen.append).tolist() == pytest.approx([1.0, 0.4])
    fit.model.load_save()
    assert (fit.model.layers[0].weight[0] == 1).all()


def test_elites_are_the_members_with_the_least_best_errors() -> None:
    dynamics = make(members=5, elites=3)
    errors = dynamics.train(linear_system(), max_epochs=3, batch_size=32)
    assert errors.shape == (5,)
    assert dynamics.model.elites.tolist() == errors.argsort()[:3].tolist()


def test_restored_weights_have_the_returned_errors() -> None:
    dynamics, data = make(), linear_system()
    source = torch.Generator()
    source.set_state(dynamics.generator.get_state())
    errors = dynamics.train(data, max_epochs=6, batch_size=32)
    _, rows = holdout_split(200, 0.2, source, torch.device("cpu"))
    inputs, targets = dynamics.format_samples_for_training(data)
    mean, _ = dynamics.model(dynamics.scaler.transform_tensor(inputs[rows]))
    again = (mean - targets[rows]).square().mean((1, 2)).detach()
    torch.testing.assert_close(again, errors, rtol=1e-5, atol=0)


def test_scaler_is_fitted_on_training_rows_alone() -> None:
    dynamics, data = make(), linear_system()
    source = torch.Generator()
    source.set_state(dynamics.generator.get_state())
    dynamics.train(data, max_epochs=1)
    rows, _ = holdout_split(200, 0.2, source, torch.device("cpu"))
    inputs = np.concatenate([data["observations"], data["actions"]], 1)[rows.numpy()]
    np.testing.assert_allclose(dynamics.scaler.mu, inputs.mean(0, keepdims=True), atol=1e-6)
    np.testing.assert_allclose(dynamics.scaler.std, inputs.std(0, keepdims=True), rtol=1e-5)


def test_fit_learns_a_linear_system() -> None:
    dynamics, data = make(hidden_dims=(32, 32)), linear_system(400)
    for layer in dynamics.model.layers:
        layer.weight_decay = 1e-6
    targets = dynamics.format_samples_for_training(data)[1]
    errors = dynamics.train(data, max_epochs=40, batch_size=64)
    assert errors.max() < 0.03 * targets.var()


def test_learned_spread_matches_the_noise() -> None:
    dynamics, data = make(hidden_dims=(32, 32)), linear_system(600, noise=0.3)
    dynamics.train(data, max_epochs=40, batch_size=64, logvar_loss_coef=0.001)
    inputs = dynamics.format_samples_for_training(data)[0]
    _, logvar = dynamics.model(dynamics.scaler.transform_tensor(inputs))
    std = torch.exp(0.5 * logvar)[..., :3].mean().item()
    assert 0.2 < std < 0.4


def test_fit_leaves_the_data_alone() -> None:
    data = linear_system()
    before = {name: x.copy() for name, x in data.items()}
    make().train(data, max_epochs=1)
    assert all(np.array_equal(before[name], data[name]) for name in data)


@pytest.mark.parametrize("rows", [0, 1, 4])
def test_too_few_transitions_are_refused_in_one_line(rows: int) -> None:
    with pytest.raises(UserError, match="hold-out") as caught:
        make().train(linear_system(rows))
    assert "\n" not in str(caught.value)
