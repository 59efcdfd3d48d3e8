"""`data convert` and the pictures of `data info`: what comes back is what went in, bit for bit."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from offlinerlkit_romi import cli
from offlinerlkit_romi.data.commands import main
from offlinerlkit_romi.data.convert import FORMATS, convert
from offlinerlkit_romi.data.rows import Rows
from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.standins.recipes import generate
from tests.support.data import hopper_rows, read_rows, write_hdf5
from tests.support.stopping import before, disk_is_full

TASK = "hopper-medium-replay-v2"
needs_minari = pytest.mark.skipif(
    importlib.util.find_spec("minari") is None, reason="needs the extra `minari`"
)


@pytest.fixture
def generated() -> Path:
    """Real simulator data: five policies, so that episodes are cut by flags as well."""
    return generate(TASK, 700, jobs=1, progress=False)


def in_order(n: int = 12, **changes: object) -> dict[str, np.ndarray]:
    """Rows in which each one starts in the next state of the one before, within an episode."""
    arrays = hopper_rows(n, **changes)
    if "next_observations" in arrays:
        inner = np.flatnonzero(~(arrays["terminals"] | arrays["timeouts"])[:-1])
        arrays["next_observations"][inner] = arrays["observations"][inner + 1]
    return arrays


def assert_equal(first: Rows, second: Rows, *, extras: bool = True) -> None:
    assert set(first.columns) == set(second.columns)
    for key, values in first.columns.items():
        other = second.columns[key]
        assert values.dtype == other.dtype and values.shape == other.shape, key
        assert values.tobytes() == other.tobytes(), key
    if extras:
        assert set(first.extras) == set(second.extras)
        for key, values in first.extras.items():
            assert values.tobytes() == second.extras[key].tobytes()


def test_hdf5_to_npz_and_back_keeps_every_bit(tmp_path: Path, generated: Path) -> None:
    npz, back = tmp_path / "a.npz", tmp_path / "b.hdf5"
    assert convert(str(generated), "npz", str(npz)) == ()
    assert convert(str(npz), "d4rl", str(back)) == ()
    first = read_rows(generated)
    assert {"infos/qpos", "infos/qvel", "timeouts"} <= set(first.columns)
    assert first.metadata["task"] == TASK
    assert_equal(first, read_rows(npz))
    assert_equal(first, read_rows(back))


def test_odd_types_and_values_survive(tmp_path: Path) -> None:
    arrays = in_order(infos=None)
    arrays["observations"] = arrays["observations"].astype(np.float64)
    arrays["observations"][2, 3] = np.nan
    arrays["rewards"] = arrays["rewards"].astype(np.float64)[:, None]
    arrays["terminals"] = arrays["terminals"].astype(np.float32)
    source = write_hdf5(tmp_path / "a.hdf5", arrays, compression="gzip")
    convert(str(source), "npz", str(tmp_path / "a.npz"))
    assert_equal(read_rows(source), read_rows(tmp_path / "a.npz"))


@needs_minari
@pytest.mark.parametrize("name", ["mine-v0", "mine/hopper/small-v3"])
def test_minari_and_back_keeps_every_bit_of_every_column(
    tmp_path: Path, generated: Path, name: str
) -> None:
    told = convert(str(generated), "minari", name)
    assert len(told) == 1 and "metadata/seed" in told[0]
    convert(f"minari:{name}", "d4rl", str(tmp_path / "back.hdf5"))
    assert_equal(read_rows(generated), read_rows(tmp_path / "back.hdf5"), extras=False)
    left = [path.name for path in (tmp_path / "minari").iterdir()]
    assert left == [name.partition("/")[0]]
    with pytest.raises(UserError, match="exists"):
        convert(str(generated), "minari", name)


@needs_minari
def test_minari_gets_the_rows_that_have_a_next_state(tmp_path: Path) -> None:
    arrays = in_order(next_observations=None)
    told = convert(str(write_hdf5(tmp_path / "a.hdf5", arrays)), "minari", "cut-v0")
    assert "2 rows at time limits and at the end are left out, 1 terminal" in told[0]
    found = read_rows("minari:cut-v0").columns
    kept = [row for row in range(12) if row not in (8, 11)]
    following = [row + (row != 4) for row in kept]  # row 4 is terminal
    for key in ("observations", "actions", "rewards", "terminals"):
        assert np.array_equal(found[key], arrays[key][kept])
    assert np.array_equal(found["next_observations"], arrays["observations"][following])
    # what was cut at the time limit is marked one row earlier
    assert np.flatnonzero(found["timeouts"]).tolist() == [7, 9]


@needs_minari
def test_rows_that_do_not_follow_each_other_become_episodes(tmp_path: Path) -> None:
    source = write_hdf5(tmp_path / "a.hdf5", hopper_rows())  # next states are drawn at random
    told = convert(str(source), "minari", "loose-v0")
    assert "9 rows are not followed by their next state (the first is row 0)" in told[0]
    assert_equal(read_rows(source), read_rows("minari:loose-v0"))


def test_missing_minari_names_the_extra(tmp_path: Path, installed: Callable[..., None]) -> None:
    installed(minari=None)
    source = write_hdf5(tmp_path / "a.hdf5", hopper_rows())
    with pytest.raises(UserError, match=r"pip install offlinerlkit-romi\[minari\]"):
        convert(str(source), "minari", "mine-v0")


@pytest.mark.parametrize(
    ("form", "out", "words"),
    [
        ("csv", "b.csv", "choose d4rl, npz, minari"),
        ("d4rl", "b.npz", "ends in .hdf5"),
        ("npz", "b.hdf5", "ends in .npz"),
        ("npz", "none/b.npz", "cannot write to the folder"),
        ("npz", "there.npz", "exists"),
    ],
)
def test_bad_outputs_are_refused_and_nothing_is_written(
    tmp_path: Path, form: str, out: str, words: str
) -> None:
    source = write_hdf5(tmp_path / "a.hdf5", hopper_rows())
    (tmp_path / "there.npz").write_bytes(b"precious")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=words):
        convert(str(source), form, str(tmp_path / out))
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "there.npz").read_bytes() == b"precious"


def test_failed_write_leaves_nothing(tmp_path: Path) -> None:
    source = write_hdf5(tmp_path / "a.hdf5", hopper_rows())

    def full(file: object, **arrays: object) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        disk_is_full()

    told = pytest.raises(UserError, match="no space left on the disk")
    with before(np, "savez_compressed", full), told:
        convert(str(source), "npz", str(tmp_path / "b.npz"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.hdf5"]


@pytest.mark.parametrize("name", ["a.hdf5", "a.npz"])
def test_damaged_and_incomplete_sources_end_with_one_line(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with pytest.raises(UserError, match="no data file"):
        read_rows(path)
    path.write_bytes(b"<html>404</html>")
    with pytest.raises(UserError, match="truncated, or another format"):
        read_rows(path)
    path.unlink()
    arrays = hopper_rows(rewards=None)
    write_hdf5(path, arrays) if path.suffix == ".hdf5" else np.savez(path, **arrays)
    with pytest.raises(UserError, match="lacks rewards"):
        read_rows(path)
    assert "minari" in FORMATS


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rewards": np.array([b"a"] * 12)}, "rewards holds |S1, not numbers"),
        ({"rewards": np.zeros((12, 2))}, "rewards has shape (12, 2): give one number"),
        ({"observations": np.zeros((12, 4, 4))}, "observations has shape (12, 4, 4): give one row"),
        ({"next_observations": np.zeros((12, 5))}, "next_observations has shape (12, 5), obs"),
    ],
)
def test_columns_that_are_no_table_end_with_one_line(
    tmp_path: Path, changes: dict[str, np.ndarray], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_hdf5(tmp_path / "a.hdf5", hopper_rows(**changes))
    for command in (["doctor", str(path)], ["convert", str(path), "--to", "minari", "-o", "a-v0"]):
        assert cli.main(["data", *command]) == 2
        err = capsys.readouterr().err
        assert words in err and err.count("\n") == 1


def test_a_group_that_holds_itself_is_read_once(tmp_path: Path) -> None:
    path = write_hdf5(tmp_path / "a.hdf5", hopper_rows())
    with h5py.File(path, "a") as file:
        group = file.create_group("infos")
        group["qpos"], group["back"], group["top"] = np.zeros((12, 6)), group, file["/"]
    assert set(read_rows(path).columns) == {*hopper_rows(), "infos/qpos"}


def test_pickled_arrays_are_not_opened(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", observations=np.array([{"a": 1}], dtype=object))
    with pytest.raises(UserError, match="cannot read"):
        read_rows(tmp_path / "a.npz")


def test_info_draws_returns_and_lengths(
    tmp_path: Path, generated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "episodes.png"
    arguments = ["info", "--task", TASK, "--data", str(generated), "--histogram", str(picture)]
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert "quartiles" in text and "lengths" in text and str(picture) in text
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    arguments[-1] = str(tmp_path / "episodes.txt")
    with pytest.raises(UserError, match=r"give a \.png file"):
        main(arguments)


def test_info_without_a_complete_episode_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nothing = np.zeros(12, bool)
    path = write_hdf5(tmp_path / "a.hdf5", hopper_rows(terminals=nothing, timeouts=nothing))
    main(["info", "--task", TASK, "--data", str(path)])
    assert "no complete episode" in capsys.readouterr().out
    with pytest.raises(UserError, match="no histogram"):
        main(["info", "--task", TASK, "--data", str(path), "--histogram", str(tmp_path / "a.png")])


def test_convert_tells_what_it_did(
    tmp_path: Path, generated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a.npz"
    assert main(["convert", str(generated), "--to", "npz", "-o", str(out)]) == 0
    assert capsys.readouterr().out.strip() == f"{generated} -> {out}"


def test_neorls_files_are_read_with_their_time_limits_told_from_terminals(tmp_path: Path) -> None:
    done = np.zeros(1300)
    done[[199, 1199, 1299]] = 1  # NeoRL's `done` is also set where the time limit ended it
    arrays = hopper_rows(1300)
    np.savez(
        tmp_path / "a.npz",
        obs=arrays["observations"],
        next_obs=arrays["next_observations"],
        action=arrays["actions"],
        reward=arrays["rewards"][:, None],
        done=done[:, None],
        index=np.array([200, 1200, 1300], np.float32),
        metadata=np.asarray('{"task": "Hopper-v3-low"}'),
    )
    convert(str(tmp_path / "a.npz"), "d4rl", str(tmp_path / "a.hdf5"))
    found = read_rows(tmp_path / "a.hdf5")
    assert np.flatnonzero(found.columns["terminals"]).tolist() == [199, 1299]
    assert np.flatnonzero(found.columns["timeouts"]).tolist() == [1199]
    assert found.metadata["task"] == "Hopper-v3-low"
    for key in ("observations", "next_observations", "actions", "rewards"):
        assert np.array_equal(found.columns[key].reshape(arrays[key].shape), arrays[key])


def test_a_table_is_converted_and_what_is_left_out_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arrays = {key: values.astype(float) for key, values in in_order().items()}
    names, columns = ["extra"], [np.arange(12.0)]
    for key, values in arrays.items():
        matrix = values.reshape(12, -1).T
        names += [f"{key}_{at}" for at in range(len(matrix))] if len(matrix) > 1 else [key]
        columns += list(matrix)
    table = np.stack(columns, axis=1)
    np.savetxt(tmp_path / "a.csv", table, delimiter=",", header=",".join(names), comments="")
    out = tmp_path / "a.npz"
    assert main(["convert", str(tmp_path / "a.csv"), "--to", "npz", "-o", str(out)]) == 0
    assert "note: what has no name in D4RL's format is not read" in capsys.readouterr().out
    found = read_rows(out).columns
    assert set(found) == set(arrays)
    assert all(np.array_equal(found[key], values) for key, values in arrays.items())


@needs_minari
def test_minari_hears_the_actions_own_box(tmp_path: Path) -> None:
    import minari

    arrays = in_order(60)
    arrays["actions"] = 2 * arrays["actions"]
    source = str(write_hdf5(tmp_path / "a.hdf5", arrays))
    told = convert(source, "minari", "guess-v0")
    box = minari.load_dataset("guess-v0").action_space
    assert (box.low == -2).all() and (box.high == 2).all()
    assert "action bounds guessed from the data: train with --action-bounds -2 2 if so" in told
    told = convert(source, "minari", "told-v0", (-3, 3))
    assert (minari.load_dataset("told-v0").action_space.high == 3).all()
    assert not any("guessed" in line for line in told)
