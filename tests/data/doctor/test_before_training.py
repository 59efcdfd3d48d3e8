"""Data are examined before training: a line in the log, or a stop that names the correction."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from offlinerlkit_romi.data.doctor.before_training import examined
from offlinerlkit_romi.data.load import read_dataset
from offlinerlkit_romi.data.rows import as_rows
from offlinerlkit_romi.envs import get_task
from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.experiment.run import train
from tests.data.doctor.conftest import simulated
from tests.experiment.conftest import TINY, make_dataset
from tests.support.data import save

TASK = "hopper-medium-v2"


def file(tmp_path: Path, *, defect: bool, stored: bool = True) -> Path:
    arrays = simulated(TASK, 2500)
    ends = np.flatnonzero(arrays["terminals"][:-1])
    if defect:
        arrays["next_observations"][ends] = arrays["observations"][ends + 1]
    if not stored:
        del arrays["next_observations"]
        if defect:
            arrays["terminals"][ends] = False
    save(as_rows(arrays, "a"), path := tmp_path / "mine.hdf5")
    return path


def settings(tmp_path: Path, path: Path) -> dict[str, object]:
    return TINY | {"task": TASK, "data": str(path), "log_root": str(tmp_path / "log")}


def bc(tmp_path: Path, path: Path, **more: object) -> str:
    """Train; returns what the run's console said."""
    known = {"task", "data", "log_root", "epoch", "step_per_epoch", "batch_size", "hidden_dims"}
    chosen = {key: v for key, v in settings(tmp_path, path).items() if key in known}
    summary = train("bc", **chosen, device="cpu", eval_episodes=0, **more)
    return (Path(summary.run_dir) / "record" / "consoleout_backup.txt").read_text()


@pytest.mark.parametrize("stored", [True, False])
def test_clean_data_leave_one_line(tmp_path: Path, stored: bool) -> None:
    text = bc(tmp_path, file(tmp_path, defect=False, stored=stored))
    assert text.count("data: no finding") == 1


@pytest.mark.parametrize("stored", [True, False])
def test_errors_stop_before_anything_is_written(tmp_path: Path, stored: bool) -> None:
    path = file(tmp_path, defect=True, stored=stored)
    with pytest.raises(UserError) as caught:
        bc(tmp_path, path)
    line = str(caught.value)
    assert "next state of another episode" in line and "\n" not in line
    assert f"data doctor {path} --task {TASK} --fix" in line and "--no-doctor" in line
    assert not (tmp_path / "log").exists()
    assert "data:" not in bc(tmp_path, path, doctor=False)


def test_the_benchmarks_own_files_are_never_refused(tmp_path: Path) -> None:
    task = get_task(TASK)
    dataset = read_dataset(file(tmp_path, defect=True), task, "d4rl", "0" * 64)
    notes = examined(dataset, task).info.notes
    assert "data error: next-of-other-episode" in notes[-1]
    own = replace(dataset, info=replace(dataset.info, source="file"))
    with pytest.raises(UserError, match="another episode"):
        examined(own, task)


def test_terminals_without_a_stored_next_state_pass(tmp_path: Path) -> None:
    """The loader keeps them with their own observation, in which no rule ends anything."""
    task = get_task(TASK)
    dataset = read_dataset(file(tmp_path, defect=False, stored=False), task, "file")
    assert dataset.model_rows is not None and dataset.terminals.any()
    assert examined(dataset, task).info.notes[-1] == "data: no finding"


def test_warnings_do_not_stop() -> None:
    dataset = make_dataset()
    again = np.r_[np.arange(400), np.arange(5)]
    doubled = replace(
        dataset,
        **{key: values[again] for key, values in dataset.as_dict().items()},
    )
    notes = examined(doubled, get_task(dataset.info.task)).info.notes
    assert "data warning: duplicate-rows: 5 rows" in notes[-1] and "first row 400" in notes[-1]
