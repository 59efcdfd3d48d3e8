"""Reading D4RL's format: a slow row loop is the oracle, and every bad file has its line."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from offlinerlkit_romi import data
from offlinerlkit_romi.data.fast_hdf5 import read_whole
from offlinerlkit_romi.data.rows import episodes_of, time_limits
from offlinerlkit_romi.errors import UserError
from tests.support.data import hopper_rows, write_hdf5

TASK = "hopper-medium-v2"


def load(path: Path) -> data.Dataset:
    return data.load(TASK, str(path))


def loop_oracle(arrays: dict[str, np.ndarray]) -> list[tuple[int, int, bool]]:
    """(row, row of the next state, whether a model may learn it), one row at a time."""
    n, found = len(arrays["rewards"]), []
    for row in range(n):
        if arrays["terminals"][row]:
            found.append((row, row, False))
        elif not arrays["timeouts"][row] and row + 1 < n:
            found.append((row, row + 1, True))
    return found


def test_stored_next_observations_make_every_row_a_transition(tmp_path: Path) -> None:
    arrays = hopper_rows()
    loaded = load(write_hdf5(tmp_path / "a.hdf5", arrays))
    assert len(loaded) == 12 and loaded.model_rows is None
    assert np.array_equal(loaded.next_observations, arrays["next_observations"])
    assert np.array_equal(loaded.rewards[:, 0], arrays["rewards"])
    assert np.flatnonzero(loaded.terminals).tolist() == [4]  # the time limit in row 8 is none


@pytest.mark.parametrize("seed", range(20))
def test_missing_next_observations_come_from_the_same_episode(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    arrays = hopper_rows(
        40,
        seed,
        next_observations=None,
        terminals=rng.random(40) < 0.2,
        timeouts=rng.random(40) < 0.2,
    )
    loaded = load(write_hdf5(tmp_path / "a.hdf5", arrays))
    expected = loop_oracle(arrays)
    rows, following, usable = (list(column) for column in zip(*expected, strict=True))
    assert np.array_equal(loaded.observations, arrays["observations"][rows])
    assert np.array_equal(loaded.next_observations, arrays["observations"][following])
    assert np.array_equal(loaded.rewards[:, 0], arrays["rewards"][rows])
    assert np.array_equal(loaded.terminals[:, 0], arrays["terminals"][rows])
    assert loaded.model_rows is not None and loaded.model_rows.tolist() == usable
    assert not loaded.model_dict()["terminals"].any()
    assert len(loaded.model_dict()["rewards"]) == sum(usable)


def test_terminal_last_row_keeps_its_reward(tmp_path: Path) -> None:
    arrays = hopper_rows(3, next_observations=None, terminals=np.array([0, 0, 1], dtype=bool))
    loaded = load(write_hdf5(tmp_path / "a.hdf5", arrays))
    assert loaded.rewards[-1, 0] == arrays["rewards"][-1] and loaded.terminals[-1, 0]


def test_replay_files_with_float64_columns_and_float_flags_read_the_same(tmp_path: Path) -> None:
    arrays = hopper_rows()
    other = {key: value.astype(np.float64) for key, value in arrays.items()}
    other["rewards"], other["timeouts"] = other["rewards"][:, None], other["timeouts"][:, None]
    first = load(write_hdf5(tmp_path / "a.hdf5", arrays))
    second = load(write_hdf5(tmp_path / "b.hdf5", other))
    for key, value in first.as_dict().items():
        assert np.array_equal(value, second.as_dict()[key])
        assert second.as_dict()[key].dtype == (bool if key == "terminals" else np.float32)


@pytest.mark.parametrize("options", [{}, {"compression": "gzip"}, {"compression": "lzf"}])
@pytest.mark.parametrize("kind", ["f4", "f8", ">f4", "i2"])
def test_parallel_reader_equals_h5py(tmp_path: Path, options: dict[str, Any], kind: str) -> None:
    values = np.random.default_rng(0).normal(0, 9, (1001, 7)).astype(kind)
    chunked = {"chunks": (100, 3), **options} if options else {}
    path = write_hdf5(tmp_path / "a.hdf5", {"x": values}, **chunked)
    with h5py.File(path) as file:
        assert np.array_equal(read_whole(file["x"]), file["x"][()])


def test_episode_returns_leave_the_unfinished_tail_out() -> None:
    rewards = np.arange(6, dtype=np.float32)
    ends = episodes_of(
        rewards, np.array([0, 1, 0, 0, 0, 0], bool), np.array([0, 0, 0, 1, 0, 0], bool)
    )
    assert ends.returns.tolist() == [1.0, 5.0] and ends.lengths.tolist() == [2, 2]
    assert not len(episodes_of(rewards, np.zeros(6, bool), np.zeros(6, bool)).returns)


def test_time_limits_are_counted_from_each_episodes_start() -> None:
    terminals = np.zeros(20, bool)
    terminals[4] = terminals[19] = True
    assert np.flatnonzero(time_limits(terminals, 5)).tolist() == [9, 14]


def test_repr_shows_shapes_and_source(tmp_path: Path) -> None:
    text = repr(load(write_hdf5(tmp_path / "a.hdf5", hopper_rows())))
    assert "observations (12, 11)" in text and "from file" in text and "2 episodes" in text


def spoiled(key: str, row: int, value: float) -> dict[str, np.ndarray]:
    arrays = hopper_rows()
    arrays[key] = arrays[key].copy()
    arrays[key][row] = value
    return arrays


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        (hopper_rows(rewards=None, actions=None), "lacks actions"),
        (hopper_rows(observations=np.zeros((12, 17))), "observations has shape (12, 17)"),
        (hopper_rows(rewards=np.zeros((12, 2))), "rewards has shape (12, 2)"),
        (hopper_rows(terminals=np.zeros(11, bool)), "terminals has shape (11,)"),
        (hopper_rows(0), "holds no transitions"),
        (
            spoiled("rewards", 3, np.nan),
            "rewards holds 1 NaN or infinite entries, the first in row 3",
        ),
        (spoiled("observations", 5, np.inf), "observations holds 11 NaN or infinite entries"),
        (spoiled("actions", 7, 1.5), "1 rows have actions outside [-1, 1] (first row 7"),
    ],
)
def test_bad_files_end_with_one_clear_line(
    tmp_path: Path, arrays: dict[str, np.ndarray], words: str
) -> None:
    path = write_hdf5(tmp_path / "bad.hdf5", arrays)
    with pytest.raises(UserError) as caught:
        load(path)
    assert words in str(caught.value) and str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_infinities_of_both_signs_do_not_cancel(tmp_path: Path) -> None:
    arrays = spoiled("observations", 2, np.inf)
    arrays["observations"][3] = -np.inf
    with pytest.raises(UserError, match="holds 22 NaN or infinite entries, the first in row 2"):
        load(write_hdf5(tmp_path / "a.hdf5", arrays))


def test_truncated_and_foreign_files_are_named(tmp_path: Path) -> None:
    whole = write_hdf5(tmp_path / "a.hdf5", hopper_rows(500)).read_bytes()
    for name, content in (("cut.hdf5", whole[: len(whole) // 2]), ("text.hdf5", b"<html>")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=rf"cannot read .*{name} as HDF5"):
            load(tmp_path / name)


def test_damaged_compressed_chunk_is_named(tmp_path: Path) -> None:
    path = write_hdf5(tmp_path / "a.hdf5", hopper_rows(500), compression="gzip")
    with h5py.File(path) as file:
        place = file["observations"].id.get_chunk_info(0)
    with path.open("rb+") as raw:
        raw.seek(place.byte_offset + place.size // 2)
        raw.write(b"\x00" * 40)
    with pytest.raises(UserError, match="cannot read"):
        load(path)


def test_missing_file_and_unknown_source_say_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no data file"):
        load(tmp_path / "none.hdf5")
    with pytest.raises(
        UserError, match=r"no data source 'd4lr': give auto, d4rl, .*generated, a file"
    ):
        data.load(TASK, "d4lr")


def test_unknown_task_names_the_nearest() -> None:
    with pytest.raises(UserError, match="hopper-medium-v2"):
        data.load("hoper-medium-v2", "generated")
