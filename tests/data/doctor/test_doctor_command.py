"""`data doctor`: exit statuses, what is printed, copies; the replay in the simulator; the hook."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from offlinerlkit_romi import cli
from offlinerlkit_romi.data.doctor import replay
from offlinerlkit_romi.data.doctor.replay import check_replay
from offlinerlkit_romi.data.doctor.starts import SIMULATORS, claimed
from offlinerlkit_romi.data.rows import Rows, as_rows
from offlinerlkit_romi.envs.make import make_bare_env
from offlinerlkit_romi.envs.tasks import get_task
from offlinerlkit_romi.standins.recipes import generated_path
from tests.data.doctor.conftest import Make, simulated
from tests.support.data import hopper_rows, read_rows, save
from tests.support.data import write_hdf5 as write_arrays

TASK = "hopper-medium-v2"


def doctor(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Run the command: exit status, stdout, stderr."""
    capsys.readouterr()
    status = cli.main(["data", "doctor", *words])
    out, err = capsys.readouterr()
    return status, out, err


def broken(task: str = TASK, rows: int = 2500) -> tuple[Rows, np.ndarray]:
    """Clean rows whose terminals have the next episode's first state as the next one."""
    arrays = simulated(task, rows)
    ends = np.flatnonzero(arrays["terminals"][:-1])
    arrays["next_observations"][ends] = arrays["observations"][ends + 1]
    return as_rows(arrays, "broken.hdf5"), ends


def test_clean_file_ends_with_0_and_names_every_check(
    tmp_path: Path, clean: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    save(clean(TASK, 2500), path := tmp_path / "mine.hdf5")
    status, out, _ = doctor(capsys, str(path), "--task", TASK)
    assert status == 0 and "2,500 rows" in out
    assert out.count("  ok ") == 11 and "another-simulator" in out


def test_errors_end_with_1_and_say_how_many_where_and_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, ends = broken()
    save(data, path := tmp_path / "mine.npz")
    before = path.read_bytes()
    status, out, _ = doctor(capsys, str(path), "--task", TASK)
    assert status == 1
    assert f"next-of-other-episode: {len(ends)} rows" in out and f"(first row {ends[0]})" in out
    assert f"data doctor {path} --task {TASK} --fix" in out
    copy = tmp_path / "fixed.hdf5"
    status, out, _ = doctor(capsys, str(path), "--task", TASK, "--fix", str(copy))
    assert status == 0 and "removed `next_observations`" in out and "no finding" in out
    assert path.read_bytes() == before
    assert doctor(capsys, str(copy), "--task", TASK)[0] == 0


def test_what_cannot_be_fixed_is_said_and_ends_with_1(
    tmp_path: Path, clean: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    data = clean(TASK, 2500, rewards=np.zeros(2500, np.float32))
    save(data, path := tmp_path / "mine.hdf5")
    copy = str(tmp_path / "fixed.hdf5")
    status, out, _ = doctor(capsys, str(path), "--task", TASK, "--fix", copy, "--no-replay")
    assert status == 1 and "cannot be fixed: zero-rewards: every reward is zero" in out


def test_fix_never_replaces_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(broken()[0], path := tmp_path / "mine.hdf5")
    before = path.read_bytes()
    status, _, err = doctor(capsys, str(path), "--task", TASK, "--fix", str(path))
    assert status == 2 and "exists" in err and path.read_bytes() == before


def test_task_is_found_in_the_cache_the_metadata_or_the_name(
    tmp_path: Path, clean: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    path = generated_path(TASK, 2500, 0)
    path.parent.mkdir(parents=True)
    save(clean(TASK, 2500), path)
    status, out, _ = doctor(capsys, TASK, "--transitions", "2500", "--no-replay")
    assert status == 0 and str(path) in out and f"rows, {TASK}" in out
    named = tmp_path / "hopper_medium-v2.hdf5"
    named.write_bytes(path.read_bytes())
    assert f"rows, {TASK}" in doctor(capsys, str(named), "--no-replay")[1]
    data = clean(TASK, 2500)
    data.extras["metadata/task"] = np.asarray(np.bytes_(TASK))
    save(data, stated := tmp_path / "mine.npz")
    assert f"rows, {TASK}" in doctor(capsys, str(stated), "--no-replay")[1]


def test_file_of_no_known_task_is_examined_as_far_as_it_goes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arrays = hopper_rows(60)
    arrays["actions"][7] = 3.0
    path = write_arrays(tmp_path / "mine.hdf5", arrays)
    status, out, _ = doctor(capsys, str(path))
    assert status == 1 and "no task known" in out and "(first row 7)" in out
    assert "note    not-in-order" in out  # its next states are drawn at random
    assert "  -       terminal-missing" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none.hdf5"], "no data file"),
        (["hoper-medium-v2"], "hopper-medium-v2"),
        (["hopper-medium-v2"], "run `data fetch --task hopper-medium-v2`"),
        (["FILE", "--task", "halfcheetah-medium-v2"], "is this the file of another task?"),
        (["FILE", "--task", "halfcheetah"], "unknown task"),
        (["FILE", "--task", TASK, "--fix", "a.csv"], "ends in .hdf5 or .h5 or .npz"),
    ],
)
def test_bad_input_ends_with_2_and_one_line(
    tmp_path: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_arrays(tmp_path / "a.hdf5", hopper_rows())
    status, _, err = doctor(capsys, *(str(path) if word == "FILE" else word for word in words))
    assert status == 2 and message in err and err.count("\n") == 1
    assert sorted(p.name for p in tmp_path.glob("*.*")) == ["a.hdf5"]


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("robot", ["hopper", "halfcheetah", "walker2d"])
def test_clean_data_replay_alike_with_stored_states_and_from_observations(
    clean: Make, robot: str, stored: bool
) -> None:
    task = f"{robot}-medium-v2"
    nothing = {} if stored else {"infos/qpos": None, "infos/qvel": None}
    assert check_replay(claimed(clean(task, 2500, **nothing), get_task(task)), rows=80) is None


def heavier(task: Any) -> Any:
    env = make_bare_env(task)
    env.model.body_mass[:] *= 1.05
    return env


@pytest.mark.parametrize("robot", ["hopper", "halfcheetah", "walker2d"])
def test_another_simulator_is_found(
    clean: Make, robot: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = f"{robot}-medium-v2"
    records = claimed(clean(task, 2500), get_task(task))
    monkeypatch.setattr("offlinerlkit_romi.envs.make.make_bare_env", heavier)
    found = check_replay(records, rows=80)
    assert found is not None and found.severity == "warning"
    assert found.count > 40 and "next state" in found.what and "of 80 replayed" in found.what


def test_another_reward_is_found(clean: Make) -> None:
    data = clean(TASK, 2500)
    scaled = data.with_columns(rewards=data.columns["rewards"] * 5)
    found = check_replay(claimed(scaled, get_task(TASK)), rows=80)
    assert found is not None and "another reward" in found.what and found.count > 70


@pytest.mark.parametrize("robot", list(SIMULATORS))
def test_known_starts_are_the_simulators(robot: str) -> None:
    env = make_bare_env(f"{robot}-medium-v2")
    starts = np.array([env.reset(seed=seed)[0] for seed in range(200)], dtype=np.float32)
    after = np.array([env.step(env.action_space.sample())[0] for _ in range(3)], dtype=np.float32)
    simulator = SIMULATORS[robot]
    assert simulator.contains(starts).all() and not simulator.contains(after[1:]).any()
    # with the root's x in front, as NeoRL shows it
    shown = np.concatenate([np.zeros((200, 1), np.float32), starts], axis=1)
    assert simulator.contains(shown).all() and simulator.fits(shown.shape[1])
    assert not simulator.contains(shown + np.float32(0.7)).any()


def test_replay_leaves_clipped_velocities_out(clean: Make) -> None:
    data = clean(TASK, 2500, **{"infos/qpos": None, "infos/qvel": None})
    records = claimed(data, get_task(TASK))
    chosen = replay._sample(records, 300, 0)
    assert (np.abs(data.columns["observations"][chosen, 5:]) < 10).all()
    assert (np.abs(data.columns["observations"][:, 5:]) >= 10).any()


def test_written_copy_is_read_back_as_it_was(tmp_path: Path, clean: Make) -> None:
    save(clean(TASK, 2500), path := tmp_path / "a.hdf5")
    assert set(read_rows(path).columns) == set(clean(TASK, 2500).columns)
