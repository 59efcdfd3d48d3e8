"""`data doctor` on all that `train` takes: what it accuses, leaves alone and changes."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from offlinerlkit_romi import cli
from offlinerlkit_romi.data import load_own
from offlinerlkit_romi.data.checks import guessed_bounds, outside
from tests.data.doctor.test_doctor_command import doctor
from tests.support.data import read_rows

STEPS = 25


def pendulum(rows: int = 500) -> dict[str, np.ndarray]:
    """A log of torques in [-2, 2]: episodes of 25 steps, each cut at the time limit."""
    rng = np.random.default_rng(0)
    states = [rng.normal(size=(rows // STEPS, 3))]
    torques = rng.uniform(-2, 2, (rows // STEPS, STEPS, 1))
    for step in range(STEPS):
        states.append(0.9 * states[-1] + 0.1 * torques[:, step])
    path = np.stack(states, 1)
    cut = np.tile(np.arange(STEPS) == STEPS - 1, rows // STEPS)
    return {
        "observations": path[:, :-1].reshape(rows, 3),
        "actions": torques.reshape(rows, 1),
        "next_observations": path[:, 1:].reshape(rows, 3),
        "rewards": -(path[:, 1:, 0] ** 2).reshape(rows),
        "terminals": np.zeros(rows, bool),
        "timeouts": cut,
    }


def frame(arrays: dict[str, np.ndarray]) -> pd.DataFrame:
    columns = {}
    for key, values in arrays.items():
        matrix = values.reshape(len(values), -1)
        for at, column in enumerate(matrix.T):
            columns[f"{key}_{at}" if values.ndim == 2 else key] = column
    return pd.DataFrame(columns)


def stored(folder: Path, kind: str) -> str:
    """The same rows as every source that `train` takes."""
    arrays = pendulum()
    if kind == "npz":
        np.savez(folder / "log.npz", **arrays)
    elif kind == "csv":
        frame(arrays).to_csv(folder / "log.csv", index=False)
    elif kind == "parquet":
        pytest.importorskip("pyarrow")
        frame(arrays).to_parquet(folder / "log.parquet")
    elif kind == "folder":
        (folder / "log.folder").mkdir()
        for at in range(0, 500, STEPS):
            part = {key: values[at : at + STEPS] for key, values in arrays.items()}
            np.savez(folder / "log.folder" / f"{at}.npz", **part)
    else:
        names = {"observations": "state", "actions": "torque", "rewards": "pay"}
        np.savez(folder / "own.npz", **{names.get(k, k): v for k, v in arrays.items()})
        lines = "".join(f"  {key}: {name}\n" for key, name in names.items())
        (folder / "log.card.yaml").write_text(f"file: own.npz\ncolumns:\n{lines}")
        return str(folder / "log.card.yaml")
    return str(folder / f"log.{kind}")


@pytest.mark.parametrize("kind", ["npz", "csv", "parquet", "folder", "card"])
def test_torques_are_no_error_in_any_source_and_no_correction_is_advised(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = stored(tmp_path, kind)
    status, out, err = doctor(capsys, source)
    assert status == 0 and not err, out + err
    assert "500 rows, no task known, actions in [-2, 2]" in out
    assert "train with --action-bounds -2 2" in out and "--fix" not in out
    assert "  error" not in out and "ok      actions-outside" in out
    # the copy has the user's units, untouched
    assert doctor(capsys, source, "--fix", str(tmp_path / "copy.npz"))[0] == 0
    kept = read_rows(tmp_path / "copy.npz").columns
    for key, values in pendulum().items():
        assert np.array_equal(kept[key], values), key
    load_own(source, action_bounds=(-2, 2))


def test_told_bounds_are_taken_and_a_benchmarks_task_has_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = stored(tmp_path, "csv")
    status, out, _ = doctor(capsys, source, "--action-bounds", "-2", "2", "--task", "tank")
    assert status == 0 and "guessed" not in out
    status, out, _ = doctor(capsys, source, "--action-bounds", "-1.99", "1.99")
    assert status == 1 and "outside [-1.99, 1.99]" in out
    assert "--action-bounds -1.99 1.99 --fix OUT.hdf5" in out
    bounds = ("--action-bounds", "-2", "2")
    status, _, err = doctor(capsys, source, "--task", "hopper-medium-v2", *bounds)
    assert status == 2 and "hopper-medium-v2 has its own, leave it out" in err
    status, _, err = doctor(capsys, source, "--action-bounds", "2", "-2")
    assert status == 2 and "the lowest must lie below the highest" in err


def test_a_rule_that_contradicts_the_data_is_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = stored(tmp_path, "npz")
    assert "termination none on 500 of" in doctor(capsys, source, "--termination", "none")[1]


def test_more_than_a_sliver_is_changed_only_by_force(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arrays = pendulum()
    np.savez(path := tmp_path / "log.npz", **arrays)
    out = tmp_path / "copy.npz"
    words = (str(path), "--action-bounds", "-1", "1")
    status, told, _ = doctor(capsys, *words)
    wrong = int((np.abs(arrays["actions"]) > 1).any(1).sum())
    assert status == 1 and wrong > 200
    assert f"they are too many ({wrong}) to change without --force" in told
    status, _, err = doctor(capsys, *words, "--fix", str(out))
    assert status == 2 and not out.exists() and err.count("\n") == 1
    assert f"--fix would change {wrong} of 500 rows (actions-outside: clipped" in err
    assert doctor(capsys, *words, "--fix", str(out), "--force")[0] == 0
    assert np.abs(read_rows(out).columns["actions"]).max() == 1


def test_a_few_rows_beyond_the_box_are_damage_and_clipped_to_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arrays = pendulum()
    arrays["actions"][7] = 40.0
    np.savez(path := tmp_path / "log.npz", **arrays)
    status, told, _ = doctor(capsys, str(path))
    assert status == 1 and "1 rows have actions outside [-2, 2] (up to 40" in told
    copy = tmp_path / "copy.npz"
    assert doctor(capsys, str(path), "--fix", str(copy))[0] == 0
    arrays["actions"][7] = 2.0
    assert np.array_equal(read_rows(copy).columns["actions"], arrays["actions"])


@pytest.mark.parametrize(
    ("low", "high", "guess"),
    [(-1, 1, (-1, 1)), (-2, 2, (-2, 2)), (0, 10, (0, 10)), (-37, 37, (-40, 40)), (-9, 0, (-9, 0))],
)
def test_bounds_are_guessed_per_dimension(
    low: float, high: float, guess: tuple[float, float]
) -> None:
    rng = np.random.default_rng(0)
    actions = np.stack([rng.uniform(low, high, 4000), rng.uniform(-0.3, 0.3, 4000)], 1)
    assert guessed_bounds(actions) == ((guess[0], -1), (guess[1], 1))
    assert not outside(actions, guessed_bounds(actions)).any()
    actions[5] = np.nan
    assert guessed_bounds(actions) == ((guess[0], -1), (guess[1], 1))


def test_flags_under_others_names_are_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arrays = pendulum()
    arrays["terminals"][STEPS * 3 + 9 :: STEPS * 4] = True
    ended = arrays.pop("terminals")
    cut = arrays.pop("timeouts")
    for name, flags in {
        "gymnasium": {"terminations": ended, "truncations": cut},
        "gym": {"dones": ended | cut, "truncations": cut},
        "old": {"dones": ended},
    }.items():
        np.savez(path := tmp_path / f"{name}.npz", **arrays, **flags)
        frame(arrays | flags).to_csv(table := tmp_path / f"{name}.csv", index=False)
        for source in (path, table):
            status, out, _ = doctor(capsys, str(source), "--no-replay")
            assert "lacks" not in out and status in (0, 1)
            dataset = load_own(str(source), action_bounds=(-2, 2))
            assert np.array_equal(dataset.terminals[:, 0], ended), source
            said = [note for note in dataset.info.notes if "dones" in note]
            assert len(said) == ("dones" in flags) and all(note in out for note in said)


def test_a_file_that_cannot_be_read_is_never_to_be_deleted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.csv", "a.npz", "a.hdf5", "a.h5", "a.parquet", "a.HDF5", "a.txt", "a.yaml"):
        path = tmp_path / name
        path.write_bytes(b"x,y\n1,2\n" if name == "a.csv" else b"PK\x03\x04 no such thing")
        for words in (
            ("doctor", str(path)),
            ("doctor", str(path), "--task", "hopper-medium-v2"),
            ("info", "--data", str(path)),
            ("info", "--data", str(path), "--task", "hopper-medium-v2"),
            ("info", "--data", str(path), "--task", "HalfCheetah-v3-low"),
            ("convert", str(path), "--to", "npz", "-o", str(tmp_path / "b.npz")),
        ):
            assert cli.main(["data", *words]) == 2, words
            err = capsys.readouterr().err
            assert "elete it" not in err and "get it again" not in err, err
            assert name in err and err.count("\n") == 1, err
            assert "npz" not in err.replace("b.npz", "") or name in ("a.npz", "a.txt"), err
