"""Codes, counts and penalties of Count-MORL against python dictionaries and row loops."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from offlinerlkit_romi.dynamics.count_dynamics import (
    CountTable,
    aggregate,
    coder_loss,
    trunk_features,
)
from offlinerlkit_romi.dynamics.ensemble_dynamics import EnsembleDynamics
from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.modules import HashCoder
from offlinerlkit_romi.modules.hash_coder import MAX_BITS, pack_bits
from offlinerlkit_romi.policy import MOPOPolicy
from tests.reference import count as reference
from tests.support.count import dataset, make_count_dynamics, trained
from tests.support.policies import FLOAT64, make_batch, make_dynamics, make_policy
from tests.support.scripted import twin

codes = st.integers(0, 2**MAX_BITS - 1) | st.integers(0, 5)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(codes, codes), min_size=1, max_size=40), st.lists(codes, max_size=10))
def test_counts_are_a_dictionarys(rows: list[tuple[int, int]], others: list[int]) -> None:
    stored = torch.tensor(rows).T.contiguous()
    table = CountTable.of(stored)
    asked = torch.cat([stored, torch.tensor(others, dtype=torch.int64).expand(2, -1)], dim=1)
    found = table.lookup(asked)
    for member in range(2):
        oracle = Counter(row[member] for row in rows)
        expected = [max(oracle[int(key)], 1) for key in asked[member]]
        assert found[member].tolist() == expected


@settings(deadline=None, max_examples=30)
@given(st.lists(codes, min_size=1, max_size=200), st.lists(codes, min_size=1, max_size=10))
def test_counts_are_the_released_sketchs_without_its_collisions(
    rows: list[int], others: list[int]
) -> None:
    table, sketch = CountTable.of(torch.tensor([rows])), reference.Sketch()
    for key in rows:
        sketch.add(key)
    asked = rows + others
    for key, n in zip(asked, table.lookup(torch.tensor([asked]))[0].tolist(), strict=True):
        assert n <= sketch.count(key)
        if len({k % p for k in {*asked} for p in reference.PRIMES[:1]}) == len({*asked}):
            assert n == sketch.count(key)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(st.booleans(), min_size=9, max_size=9), min_size=1, max_size=20))
def test_packed_codes_are_binary_numbers(rows: list[list[bool]]) -> None:
    expected = [sum(bit << j for j, bit in enumerate(row)) for row in rows]
    assert pack_bits(torch.tensor(rows)).tolist() == expected


def test_the_longest_code_keeps_every_bit_and_stays_below_the_padding() -> None:
    keys = pack_bits(torch.eye(MAX_BITS, dtype=torch.bool))
    assert keys.tolist() == [1 << j for j in range(MAX_BITS)]
    full = pack_bits(torch.ones(1, MAX_BITS, dtype=torch.bool))
    table = CountTable.of(torch.stack([torch.cat([keys, full]), full.expand(MAX_BITS + 1)]))
    assert table.lookup(full.repeat(2, 1)).tolist() == [[1], [MAX_BITS + 1]]


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.lists(st.integers(1, 2000), min_size=5, max_size=5), min_size=1, max_size=6),
    st.sampled_from(["UC", "AVG", "LC"]),
    st.floats(0, 3),
)
def test_pseudo_counts_are_mean_and_population_spread(rows, mode: str, coef: float) -> None:
    counts = torch.tensor(rows, dtype=FLOAT64).T
    result = aggregate(counts, mode, coef)
    expected = [reference.pseudo_count(row, mode, coef) for row in rows]
    assert result.shape == (len(rows), 1) and bool((result >= 1).all())
    np.testing.assert_allclose(result[:, 0].numpy(), expected, rtol=1e-9)


@pytest.mark.parametrize("num_bits", [6, 50])
@pytest.mark.parametrize("decoder_out", ["linear", "swish"])
def test_coder_loss_equals_the_row_loop(num_bits: int, decoder_out: str) -> None:
    dynamics = make_count_dynamics(num_bits=num_bits, decoder_out=decoder_out)
    inputs, target = torch.randn(2, 4, 3, 5, dtype=FLOAT64)
    fast = coder_loss(dynamics.coder, trunk_features(dynamics.model, inputs), target)
    slow = reference.coder_loss(dynamics.model, dynamics.coder, inputs, target)
    assert fast.item() == pytest.approx(slow.item(), rel=1e-10)
    params = [p for p in dynamics.coder.parameters() if p.requires_grad]
    pairs = zip(torch.autograd.grad(fast, params), torch.autograd.grad(slow, params), strict=True)
    for left, right in pairs:
        torch.testing.assert_close(left, right, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize(("num_bits", "layers"), [(8, 7), (32, 7), (50, 5)])
def test_the_coder_has_the_releases_layers(num_bits: int, layers: int) -> None:
    coder = HashCoder(200, 23, num_bits)
    widths = [layer.weight.shape[1] for layer in coder.layers] + [23]
    narrow = [200, 100, 50, num_bits, 50, 100, 100, 23]
    assert len(coder.layers) == layers
    assert widths == (narrow if num_bits < 50 else [200, 100, num_bits, 100, 100, 23])
    assert coder.layers[0].weight_decay == 7.5e-5 and coder.layers[-1].weight_decay == 1e-5


def test_the_models_fit_is_the_same_as_without_the_coder() -> None:
    counting = make_count_dynamics(dtype=torch.float32)
    plain = make_dynamics(members=4, elites=3, hidden_dims=(8, 7, 6), dtype=torch.float32)
    plain.optim = torch.optim.Adam(
        [p for p in plain.model.parameters() if p.requires_grad], 3e-3, fused=True
    )
    plain.generator = twin(counting.generator)
    for dynamics in (counting, plain):
        dynamics.train(dataset(), max_epochs=3, batch_size=16)
    for name, value in plain.model.state_dict().items():
        assert torch.equal(value, counting.model.state_dict()[name]), name


def test_every_members_coder_comes_from_the_epoch_of_its_trunk() -> None:
    dynamics, history = make_count_dynamics(), []

    def snapshot(progress) -> None:
        trunks, coders = dynamics.model.backbones[0].weight, dynamics.coder.layers[0].weight
        history.append([(trunks[e].clone(), coders[e].clone()) for e in range(4)])

    data = dataset(40)
    dynamics.optim.param_groups[0]["lr"] = 0.1  # so rough that the last epoch is rarely the best
    dynamics.train(data, max_epochs=12, max_epochs_since_update=12, batch_size=8, on_epoch=snapshot)
    chosen = []
    for e in range(4):
        trunk, coder = dynamics.model.backbones[0].weight[e], dynamics.coder.layers[0].weight[e]
        epochs = [i for i, pairs in enumerate(history) if torch.equal(pairs[e][0], trunk)]
        assert len(epochs) == 1 and torch.equal(history[epochs[0]][e][1], coder)
        chosen += epochs
    assert min(chosen) < len(history) - 1


@pytest.mark.parametrize("mode", ["UC", "AVG", "LC"])
def test_penalties_equal_a_dictionary_of_the_training_rows(mode: str, monkeypatch) -> None:
    monkeypatch.setattr("offlinerlkit_romi.dynamics.count_dynamics.CHUNK", 7)
    dynamics = make_count_dynamics(num_bits=4, penalty_coef=0.8, count_mode=mode, count_coef=0.9)
    split = torch.randperm(60, generator=twin(dynamics.generator))
    data = make_batch(60, seed=3)
    dynamics.train(dataset(), max_epochs=2, batch_size=16)
    inputs = dynamics.inputs(data["observations"], data["actions"])

    def bits(member: int, row: int) -> tuple[int, ...]:
        return reference.code(dynamics.model, dynamics.coder, member, inputs[row])

    elites = dynamics.count_elites.tolist()
    # holdout_ratio 0.2: the first 12 of the random order are held out, and not counted
    oracles = [Counter(bits(e, int(i)) for i in split[12:]) for e in elites]
    _, reward, _, info = dynamics.sample_step(data["observations"], data["actions"])
    for i in range(60):
        counts = [max(oracle[bits(e, i)], 1) for e, oracle in zip(elites, oracles, strict=True)]
        expected = reference.penalty(counts, mode, 0.9)
        assert info["penalty"][i].item() == pytest.approx(expected, rel=1e-9)
        assert reward[i].item() == pytest.approx(info["raw_reward"][i].item() - 0.8 * expected)
    assert dynamics.table.counts.sum(1).tolist() == [48] * 3
    assert len(info["count"].unique()) > 1


def test_the_coefficients_work() -> None:
    batch = make_batch(12, seed=5)
    args = batch["observations"], batch["actions"]
    rewards, counts = {}, {}
    for beta, coef in [(0.0, 0.5), (1.0, 0.5), (1.0, 2.0)]:
        dynamics = trained(penalty_coef=beta, count_coef=coef, num_bits=3)
        _, rewards[beta, coef], _, info = dynamics.sample_step(*args)
        counts[coef] = info["count"]
    penalty = rewards[0.0, 0.5] - rewards[1.0, 0.5]
    torch.testing.assert_close(penalty, counts[0.5].rsqrt())
    assert bool((counts[2.0] >= counts[0.5]).all() and (counts[2.0] > counts[0.5]).any())


def test_count_elites_reconstruct_held_out_rows_best() -> None:
    dynamics = make_count_dynamics()
    finished = []
    finish = dynamics._finish_fit
    dynamics._finish_fit = lambda fit, errors: (finish(fit, errors), finished.append(fit))
    dynamics.train(dataset(), max_epochs=2, batch_size=16)
    errors = finished[0].coder_errors()
    assert dynamics.count_elites.tolist() == errors.argsort()[:3].tolist()


def test_only_the_linear_decoder_can_reach_its_targets() -> None:
    """The swish of the release never falls below -0.2785; standardised inputs do, half the time."""
    fits = {}
    for decoder_out in ("linear", "swish"):
        dynamics, fit = make_count_dynamics(decoder_out=decoder_out), []
        make = dynamics._make_fit
        dynamics._make_fit = lambda *args, make=make, fit=fit: fit.append(make(*args)) or fit[0]
        dynamics.train(dataset(), max_epochs=1, batch_size=16)
        fits[decoder_out] = fit[0]
    inputs = fits["linear"].train[0]
    assert torch.equal(fits["linear"].coder_target(inputs), inputs)
    raw = fits["swish"].coder_target(inputs)
    np.testing.assert_allclose(raw.numpy(), fits["swish"].scaler.inverse_transform(inputs.numpy()))
    features = trunk_features(fits["swish"].model, 100 * inputs)
    assert fits["swish"].coder.reconstruct(features).min() > -0.2785
    assert raw.min() < -1


def test_a_round_trip_gives_the_same_counts(tmp_path: Path) -> None:
    saved, loaded = trained(), make_count_dynamics(seed=9)
    saved.save(str(tmp_path))
    loaded.load(str(tmp_path))
    batch = make_batch(20, seed=8)
    args = batch["observations"], batch["actions"]
    loaded.generator = twin(saved.generator)
    for left, right in zip(
        saved.sample_step(*args)[:3], loaded.sample_step(*args)[:3], strict=True
    ):
        assert torch.equal(left, right)
    assert torch.equal(saved.count(*args), loaded.count(*args))
    names = {"dynamics.pth", "mu.npy", "std.npy", "count_coder.pth", "count_table.pth"}
    assert {file.name for file in tmp_path.iterdir()} == names


DAMAGES = {
    "no coder": lambda d: (d / "count_coder.pth").unlink(),
    "no table": lambda d: (d / "count_table.pth").unlink(),
    "garbage": lambda d: (d / "count_table.pth").write_bytes(b"no table"),
    "a plain run's": lambda d: torch.save({"keys": torch.zeros(2)}, d / "count_table.pth"),
    "not a dict": lambda d: torch.save([1, 2], d / "count_table.pth"),
    "other code": lambda d: trained(num_bits=5).save(str(d)),
    "no model": lambda d: (d / "dynamics.pth").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_an_unfit_folder_is_refused_and_changes_nothing(tmp_path: Path, damage) -> None:
    trained().save(str(tmp_path))
    damage(tmp_path)
    target = trained(seed=9)
    before = {**target.coder.state_dict(), **target.model.state_dict()}
    before = {name: value.clone() for name, value in before.items()}
    table = target.table
    with pytest.raises(UserError) as caught:
        target.load(str(tmp_path))
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)
    after = {**target.coder.state_dict(), **target.model.state_dict()}
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert target.table is table


def test_nothing_counted_is_said_so(tmp_path: Path) -> None:
    dynamics, batch = make_count_dynamics(), make_batch(3)
    with pytest.raises(UserError, match="nothing is counted"):
        dynamics.sample_step(batch["observations"], batch["actions"])
    with pytest.raises(UserError, match="nothing is counted"):
        dynamics.save(str(tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "options", [{"count_mode": "MAX"}, {"decoder_out": "tanh"}, {"num_bits": 0}, {"num_bits": 63}]
)
def test_senseless_options_are_refused(options) -> None:
    with pytest.raises(ValueError, match=r"MAX|tanh|bits"):
        make_count_dynamics(**options)


def test_mopo_learns_in_it_and_the_numpy_step_names_the_count() -> None:
    dynamics = trained()
    policy = make_policy(MOPOPolicy, dynamics=dynamics)
    made, info = policy.rollout(make_batch(8)["observations"], 2)
    assert info["num_transitions"] == 16 and bool(made["rewards"].isfinite().all())
    data = dataset()
    infos = dynamics.step(data["observations"], data["actions"])[3]
    assert set(infos) == {"raw_reward", "penalty", "count"}
    assert all(value.shape == (60, 1) for value in infos.values())
    assert isinstance(dynamics, EnsembleDynamics)


def test_the_same_seed_counts_the_same() -> None:
    first, second = trained(dtype=torch.float32), trained(dtype=torch.float32)
    assert torch.equal(first.table.keys, second.table.keys)
    assert torch.equal(first.table.counts, second.table.counts)
    for left, right in zip(first.coder.parameters(), second.coder.parameters(), strict=True):
        assert torch.equal(left, right)
