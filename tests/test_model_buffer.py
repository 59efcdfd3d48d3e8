"""Buffers of model transitions against the plain ring buffer."""

from typing import Any

import numpy as np
import pytest
import torch

from offlinerlkit_romi.buffer import ReplayBuffer
from offlinerlkit_romi.model_buffer import HostReplayBuffer, MaskedReplayBuffer
from tests.support.policies import generator
from tests.support.recording import guarded


def make(kind: type[ReplayBuffer], capacity: int = 10, seed: int = 0) -> Any:
    return kind(capacity, (3,), np.float32, 2, np.float32, "cpu", generator(seed))


def rows_from(start: int, n: int) -> tuple[torch.Tensor, ...]:
    """Rows that show their number in every column."""
    number = torch.arange(start, start + n, dtype=torch.float32).unsqueeze(1)
    return number.repeat(1, 3), number.repeat(1, 3), number.repeat(1, 2), number, number


def numbers(buffer: ReplayBuffer) -> list[int]:
    columns = buffer.tensors()
    for column in columns.values():
        assert torch.equal(column, columns["rewards"].expand_as(column))
    return columns["rewards"].squeeze(1).int().tolist()


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_rows_of_a_mask_end_up_where_the_ring_puts_them_alone(share) -> None:
    """The slow way: take the rows out first, and append them to a plain ring buffer."""
    masked, plain, draws, start = make(MaskedReplayBuffer), make(ReplayBuffer), generator(1), 0
    for n in (4, 3, 5, 1, 25, 10, 2):  # fills, wraps around, overflows at once
        rows = rows_from(start, n)
        mask = torch.rand(n, 1, generator=draws) < share
        masked.add_batch(*rows, mask=mask)
        plain.add_batch(*(column[mask.squeeze(1)] for column in rows))
        assert numbers(masked) == numbers(plain) and len(masked) == len(plain)
        start += n


def test_without_a_mask_all_rows_are_taken() -> None:
    masked, plain = make(MaskedReplayBuffer), make(ReplayBuffer)
    for n in (7, 7):
        masked.add_batch(*rows_from(n, n))
        plain.add_batch(*rows_from(n, n))
    assert numbers(masked) == numbers(plain)


def test_filling_and_drawing_wait_for_nothing_and_stay_in_place() -> None:
    buffer, rows = make(MaskedReplayBuffer), rows_from(0, 6)
    mask = torch.tensor([1, 0, 1, 1, 0, 1], dtype=torch.bool).unsqueeze(1)
    places = [x.data_ptr() for x in buffer._data.values()]
    with guarded():
        buffer.add_batch(*rows, mask=mask)
        batch = buffer.sample(50)
    assert set(batch["rewards"].squeeze(1).int().tolist()) == {0, 2, 3, 5}
    assert places == [x.data_ptr() for x in buffer._data.values()]


@pytest.mark.parametrize("kind", [MaskedReplayBuffer, HostReplayBuffer])
def test_draws_are_uniform_over_the_live_rows(kind) -> None:
    buffer = make(kind, capacity=40)
    for start in range(0, 60, 15):
        rows, mask = rows_from(start, 15), torch.arange(15).unsqueeze(1) % 3 > 0
        if kind is MaskedReplayBuffer:
            buffer.add_batch(*rows, mask=mask)
        else:
            buffer.add_batch(*(column[mask.squeeze(1)] for column in rows))
    live = numbers(buffer)
    assert len(live) == 40
    draws = 40_000
    drawn = buffer.sample(draws)["rewards"].squeeze(1).int()
    counts = torch.bincount(drawn, minlength=60)
    assert {i for i, n in enumerate(counts.tolist()) if n} == set(live)
    expected = draws / len(live)
    chi_squared = float((counts[live] - expected).square().sum() / expected)
    assert chi_squared < 39 + 5 * (2 * 39) ** 0.5  # seeded: no flake


def test_an_empty_buffer_gives_zeros() -> None:
    batch = make(MaskedReplayBuffer).sample(3)
    assert all(not x.any() for x in batch.values())


def test_a_data_set_is_refused() -> None:
    with pytest.raises(NotImplementedError, match="add_batch"):
        make(MaskedReplayBuffer).load_dataset({})


@pytest.mark.parametrize("source", [ReplayBuffer, MaskedReplayBuffer, HostReplayBuffer])
@pytest.mark.parametrize("target", [ReplayBuffer, MaskedReplayBuffer, HostReplayBuffer])
@pytest.mark.parametrize("n", [6, 23])
def test_a_state_goes_from_one_kind_to_another(source, target, n) -> None:
    """A run saved on a GPU may go on on a CPU."""
    first, second = make(source), make(target, seed=5)
    first.add_batch(*rows_from(0, n))
    second.add_batch(*rows_from(50, 4))
    second.load_state_dict(first.state_dict())
    assert numbers(second) == numbers(first)
    for buffer in (first, second):
        buffer.add_batch(*rows_from(100, 3))
    assert numbers(second) == numbers(first)


def test_a_host_buffers_draws_go_on_after_a_resume() -> None:
    first, second = make(HostReplayBuffer), make(HostReplayBuffer, seed=5)
    first.add_batch(*rows_from(0, 8))
    first.sample(4)
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.sample(6)["rewards"], second.sample(6)["rewards"])


def test_a_host_buffer_draws_what_a_plain_one_draws() -> None:
    host, plain = make(HostReplayBuffer), make(ReplayBuffer)
    for buffer in (host, plain):
        buffer.add_batch(*rows_from(0, 8))
    drawn, expected = host.sample(20), plain.sample(20)
    assert all(torch.equal(drawn[name], expected[name]) for name in expected)
