"""The replay buffer against a list of rows."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from offlinerlkit_romi.buffer import FIELDS, ReplayBuffer
from offlinerlkit_romi.errors import UserError
from tests.support.policies import generator, make_batch, make_buffer


def empty(capacity: int, obs_dim: int = 2, seed: int = 0) -> ReplayBuffer:
    return ReplayBuffer(capacity, (obs_dim,), np.float32, 1, np.float32, generator=generator(seed))


def numbered(first: int, rows: int) -> list[np.ndarray]:
    """Columns for `add_batch` whose values name the row."""
    k = np.arange(first, first + rows, dtype=np.float32).reshape(-1, 1)
    return [np.hstack([k, k]), np.hstack([k + 0.5, k]), -k, 10 * k, k % 2]


def dataset(rows: int = 30, loc: float = 0.0, seed: int = 0) -> dict[str, np.ndarray]:
    batch = make_batch(rows, obs_dim=2, action_dim=1, dtype=torch.float32, seed=seed)
    arrays = {name: x.numpy().copy() for name, x in batch.items()}
    arrays["observations"] += loc
    return arrays


@settings(max_examples=60, deadline=None)
@given(capacity=st.integers(1, 9), sizes=st.lists(st.integers(0, 21), max_size=8))
def test_ring_holds_the_last_rows_in_a_lists_order(capacity: int, sizes: list[int]) -> None:
    buffer, oracle, slots, at = empty(capacity), [], [None] * capacity, 0
    for size in sizes:
        first = len(oracle)
        buffer.add_batch(*numbered(first, size))
        for row in range(first, first + size):
            oracle.append(row)
            slots[at % capacity] = row
            at += 1
    held = [row for row in slots if row is not None]
    assert len(buffer) == len(held) and set(held) == set(oracle[-capacity:])
    columns = [np.concatenate(c) for c in zip(*(numbered(r, 1) for r in held), strict=True)]
    for name, array in buffer.sample_all().items():
        if held:
            np.testing.assert_array_equal(array, columns[FIELDS.index(name)])


def test_single_rows_add_up_to_a_batch() -> None:
    one, many = empty(4), empty(4)
    many.add_batch(*numbered(0, 6))
    for k in range(6):
        one.add(*(column[0] for column in numbered(k, 1)))
    for name in FIELDS:
        np.testing.assert_array_equal(one.sample_all()[name], many.sample_all()[name])


def test_adding_takes_tensors_booleans_and_flat_columns() -> None:
    buffer = empty(4)
    obs, next_obs, action, reward, terminal = map(torch.as_tensor, numbered(0, 3))
    buffer.add_batch(obs.double(), next_obs, action, reward.flatten(), terminal.bool().flatten())
    rows = buffer.tensors()
    assert rows["terminals"].flatten().tolist() == [0, 1, 0]
    assert {x.dtype for x in rows.values()} == {torch.float32}


def test_samples_are_whole_rows_drawn_uniformly_with_replacement() -> None:
    buffer = empty(20)
    buffer.add_batch(*numbered(0, 10))
    batch = buffer.sample(20_000)
    row = batch["observations"][:, :1]
    assert torch.equal(batch["rewards"], 10 * row) and torch.equal(batch["actions"], -row)
    assert torch.equal(batch["next_observations"][:, :1], row + 0.5)
    counts = torch.bincount(row.flatten().long(), minlength=10)
    assert len(counts) == 10 and (counts - 2000).abs().max() < 5 * (20_000 * 0.09) ** 0.5


def test_sampling_uses_its_own_generator_alone() -> None:
    first, second = make_buffer(64, seed=3), make_buffer(64, seed=3)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    batch = first.sample(32)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(batch["observations"], second.sample(32)["observations"])
    assert not torch.equal(batch["observations"], first.sample(32)["observations"])


@pytest.mark.parametrize("loc", [0.0, 100.0, -3000.0])
def test_normalisation_equals_numpy_in_float64(loc: float) -> None:
    data = dataset(500, loc)
    buffer = empty(500)
    buffer.load_dataset(data)
    mean, std = buffer.normalize_obs(eps=1e-3)
    obs = data["observations"].astype(np.float64)
    assert mean.shape == std.shape == (1, 2) and mean.dtype == std.dtype == np.float32
    np.testing.assert_allclose(mean, obs.mean(0, keepdims=True), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(std, obs.std(0, keepdims=True) + 1e-3, rtol=1e-5)
    for name in ("observations", "next_observations"):
        expected = (data[name].astype(np.float64) - mean) / std
        np.testing.assert_allclose(buffer.sample_all()[name], expected, rtol=1e-4, atol=1e-4)


def test_normalisation_looks_at_the_filled_rows_alone() -> None:
    roomy, exact = empty(50), empty(10)
    for buffer in (roomy, exact):
        buffer.add_batch(*numbered(5, 10))
    for left, right in zip(roomy.normalize_obs(), exact.normalize_obs(), strict=True):
        np.testing.assert_array_equal(left, right)


def test_the_callers_arrays_are_never_written_to() -> None:
    data = dataset()
    before = copy.deepcopy(data)
    buffer = empty(5)
    buffer.load_dataset(data)
    buffer.normalize_obs()
    buffer.load_dataset(data)
    buffer.add_batch(*numbered(0, 7))
    assert all(np.array_equal(before[name], data[name]) for name in data)


def test_changing_arrays_given_or_taken_does_not_change_the_buffer() -> None:
    data = dataset()
    buffer = empty(5)
    buffer.load_dataset(data)
    before = buffer.sample_all()["rewards"]
    data["rewards"] += 1
    buffer.sample_all()["rewards"][:] = 7
    np.testing.assert_array_equal(buffer.sample_all()["rewards"], before)


def test_loading_replaces_the_content_and_sets_the_capacity() -> None:
    buffer = empty(5)
    buffer.add_batch(*numbered(100, 3))
    data = dataset(30)
    data["rewards"], data["terminals"] = data["rewards"][:, 0], data["terminals"][:, 0] > 0
    buffer.load_dataset(data)
    assert len(buffer) == 30
    np.testing.assert_array_equal(buffer.sample_all()["rewards"][:, 0], data["rewards"])
    buffer.add_batch(*numbered(0, 1))
    assert len(buffer) == 30 and buffer.tensors()["observations"][0].tolist() == [0, 0]


@pytest.mark.parametrize("rows", [3, 5, 8])
def test_a_restored_buffer_goes_on_like_the_original(rows: int) -> None:
    first, second = empty(5), empty(5)
    first.add_batch(*numbered(0, rows))
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for buffer in (first, second):
        buffer.add_batch(*numbered(50, 3))
    for name in FIELDS:
        np.testing.assert_array_equal(first.sample_all()[name], second.sample_all()[name])
    assert torch.equal(first.sample(9)["rewards"], second.sample(9)["rewards"])


@pytest.mark.parametrize("capacity", [4, 9])
def test_a_state_of_another_capacity_is_refused_untouched(capacity: int) -> None:
    """In a larger ring, rows after the old end would count as data though nobody wrote them."""
    full, other = empty(5), empty(capacity)
    full.add_batch(*numbered(0, 7))
    other.add_batch(*numbered(50, 2))
    before = other.sample_all()
    with pytest.raises(UserError, match="capacity"):
        other.load_state_dict(full.state_dict())
    assert len(other) == 2
    for name in FIELDS:
        np.testing.assert_array_equal(other.sample_all()[name], before[name])


def test_repr_says_how_full_it_is() -> None:
    buffer = empty(5)
    buffer.add_batch(*numbered(0, 3))
    assert "3 of 5 rows" in repr(buffer) and "observations (2,)" in repr(buffer)
