"""A run that was stopped and resumed is the run that never stopped, bit for bit."""

import csv
import json
import os
import shlex
import signal
import time
from dataclasses import dataclass, fields, replace
from pathlib import Path

import pytest
import torch

from offlinerlkit_romi import cli
from offlinerlkit_romi.engine import StateStore
from offlinerlkit_romi.errors import TrainingInterrupted, UserError
from offlinerlkit_romi.experiment.folder import RunFolder
from offlinerlkit_romi.experiment.reload import load_policy
from offlinerlkit_romi.experiment.resolve import ALGORITHMS, settle
from offlinerlkit_romi.experiment.resume import config_hash
from offlinerlkit_romi.experiment.run import train
from offlinerlkit_romi.policy_trainer import Checkpoints
from tests.experiment.conftest import TASK, TINY_SETTINGS, make_dataset
from tests.support.comparing import differences, outcome
from tests.support.programs import flags
from tests.support.stopping import Killed, at_update, before, kill, terminate

EVERYTHING = {"checkpoint_share": 1.0, "keep_state": True}


def run_tiny(root, algo="romi", **values):
    settings = TINY_SETTINGS[algo] | EVERYTHING | {"log_root": str(root)} | values
    return train(algo, **settings)


def stopped_run(root, update, act, algo="romi", **values):
    """Start a run that is stopped; returns its folder."""
    with at_update(update, act), pytest.raises((Killed, TrainingInterrupted)):
        run_tiny(root, algo, **values)
    (folder,) = root.glob("*/*/seed_*")
    return folder


def assert_same_as_uninterrupted(folder, tmp_path, algo="romi", **values):
    whole = run_tiny(tmp_path / "whole", algo, **values)
    assert differences(outcome(whole.run_dir), outcome(folder)) == []


@pytest.mark.parametrize("algo", ALGORITHMS)
@pytest.mark.parametrize("act", [kill, terminate])
def test_stopped_and_resumed_equals_never_stopped(algo, act, tiny_data, tmp_path):
    values = {"epoch": 4, "actor_lr_schedule": "cosine"}
    folder = stopped_run(tmp_path / "parts", 10, act, algo, **values)
    resumed = train(algo, resume=str(folder))
    assert resumed.run_dir == str(folder)
    assert_same_as_uninterrupted(folder, tmp_path, algo, **values)


@pytest.mark.slow
def test_evaluations_go_on_with_their_own_episodes(tiny_data, tmp_path):
    values = {"eval_episodes": 1}
    folder = stopped_run(tmp_path / "parts", 5, terminate, "mopo", **values)
    train("mopo", resume=str(folder))
    assert_same_as_uninterrupted(folder, tmp_path, "mopo", **values)


def test_a_signal_ends_the_update_and_saves_there(tiny_data, tmp_path):
    folder = stopped_run(tmp_path, 5, terminate)
    assert StateStore(folder / "checkpoint").steps() == [4, 6]


def test_more_epochs_than_the_finished_run_had_equal_one_long_run(tiny_data, tmp_path):
    short = run_tiny(tmp_path / "parts", epoch=2)
    longer = train("romi", resume=short.run_dir, epoch=4)
    assert longer.steps == 16
    assert_same_as_uninterrupted(longer.run_dir, tmp_path, epoch=4)


def test_a_run_killed_in_the_models_fit_starts_again_from_nothing(tiny_data, tmp_path):
    with before(Checkpoints, "begun", kill), pytest.raises(Killed):  # at the fit's end
        run_tiny(tmp_path / "parts")
    (folder,) = (tmp_path / "parts").glob("*/*/seed_*")
    train("romi", resume=str(folder))
    assert_same_as_uninterrupted(folder, tmp_path)


def test_the_curve_has_no_gap_and_no_row_twice(tiny_data, tmp_path):
    folder = stopped_run(tmp_path, 10, kill, epoch=4, checkpoint_freq=2)
    assert StateStore(folder / "checkpoint").steps() == [0, 8]
    # the row of an epoch that came after the last state
    with (folder / "record" / "policy_training_progress.csv").open("a") as file:
        file.write("1,2,3\n")
    train("romi", resume=str(folder))
    with (folder / "record" / "policy_training_progress.csv").open(newline="") as file:
        assert [row["timestep"] for row in csv.DictReader(file)] == ["4", "8", "12", "16"]


def test_auto_takes_the_newest_unfinished_run_of_this_very_configuration(tiny_data, tmp_path):
    folder = stopped_run(tmp_path, 5, kill, seed=7)
    other = run_tiny(tmp_path, seed=8, resume="auto")  # no such run: a new one
    assert other.run_dir != str(folder)
    resumed = run_tiny(tmp_path, seed=7, resume="auto")
    assert resumed.run_dir == str(folder)
    again = run_tiny(tmp_path, seed=7, resume="auto")  # that one is finished: a new one
    assert again.run_dir != str(folder)


@pytest.mark.parametrize("resume", ["folder", "auto"])
def test_a_clock_that_jumped_back_changes_nothing(resume, tiny_data, tmp_path):
    folder = stopped_run(tmp_path / "parts", 10, kill, epoch=4)
    tomorrow = time.time() + 86_400  # what the run wrote is from the future now
    for path in [folder, *folder.rglob("*")]:
        os.utime(path, (tomorrow, tomorrow))
    if resume == "auto":
        resumed = run_tiny(tmp_path / "parts", epoch=4, resume="auto")
    else:
        resumed = train("romi", resume=str(folder))
    assert resumed.run_dir == str(folder) and resumed.wall_seconds >= 0
    assert_same_as_uninterrupted(folder, tmp_path, epoch=4)


def test_the_last_two_states_are_kept_and_none_of_a_finished_run(tiny_data, tmp_path):
    folder = stopped_run(tmp_path, 14, kill, epoch=4, keep_state=False)
    assert StateStore(folder / "checkpoint").steps() == [8, 12]
    train("romi", resume=str(folder))
    assert [path.name for path in (folder / "checkpoint").iterdir()] == ["policy.pth"]
    with pytest.raises(UserError, match="is finished and did not keep its state"):
        train("romi", resume=str(folder), epoch=9)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"xi": 0.5, "gamma": 0.9}, "changed: --gamma 0.9 instead of 0.99, --xi 0.5 instead of"),
        ({"epoch": 1}, "--epoch 1 instead of 2: a run can get more epochs, not fewer"),
    ],
)
def test_a_changed_configuration_is_refused_with_its_differences(
    changes, message, tiny_data, tmp_path
):
    folder = stopped_run(tmp_path, 5, kill)
    with pytest.raises(UserError, match=message):
        train("romi", resume=str(folder), **changes)
    train("romi", resume=str(folder), checkpoint_freq=7, threads=1)


def test_more_epochs_are_refused_where_a_schedule_spans_them(tiny_data, tmp_path):
    folder = stopped_run(tmp_path, 5, kill, actor_lr_schedule="cosine")
    with pytest.raises(UserError, match="--epoch 5 instead of 2"):
        train("romi", resume=str(folder), epoch=5)


def test_another_algorithm_a_finished_run_and_no_run_are_refused(tiny_data, tmp_path):
    folder = run_tiny(tmp_path).run_dir
    for algo, resume, message in (
        ("mopo", folder, "that run is romi, not mopo"),
        ("romi", folder, r"that run is finished \(2 epochs\)"),
        ("romi", str(tmp_path), "is not a run's folder"),
    ):
        with pytest.raises(UserError, match=message):
            train(algo, resume=resume)


def test_replaced_data_are_refused_by_their_digest(tiny_data, tmp_path):
    folder = stopped_run(tmp_path, 5, kill)
    replaced = make_dataset()
    object.__setattr__(replaced.info, "sha256", "f" * 64)
    tiny_data.dataset = replaced
    with pytest.raises(UserError, match=r"not the data set that .* began on: sha256 f{12}"):
        train("romi", resume=str(folder))


@pytest.mark.parametrize("damage", ["cut", "flipped", "no digest"])
def test_a_damaged_state_is_told_and_the_one_before_it_taken(damage, tiny_data, tmp_path, capsys):
    folder = stopped_run(tmp_path / "parts", 10, kill, epoch=4)
    store = StateStore(folder / "checkpoint")
    damage_state(store.path(8), damage)
    train("romi", resume=str(folder))
    shown = capsys.readouterr().out
    assert "is refused" in shown and "resumed after step 4" in shown
    assert_same_as_uninterrupted(folder, tmp_path, epoch=4)


def test_a_run_without_an_intact_state_is_refused_in_one_line(tiny_data, tmp_path):
    folder = stopped_run(tmp_path, 10, kill, epoch=4)
    for step in (4, 8):
        damage_state(StateStore(folder / "checkpoint").path(step), "cut")
    with pytest.raises(UserError, match=r"refused.*no intact state is left") as caught:
        train("romi", resume=str(folder))
    assert "\n" not in str(caught.value)


def damage_state(path: Path, damage: str) -> None:
    data = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "flipped":
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    else:
        path.with_name(path.name + ".sha256").unlink()


def test_a_state_of_another_run_does_not_fit(tiny_data, tmp_path):
    first = stopped_run(tmp_path / "a", 5, kill)
    second = stopped_run(tmp_path / "b", 5, kill, gamma=0.9)
    for path in (second / "checkpoint").glob("state-*"):
        path.rename(first / "checkpoint" / path.name)
    with pytest.raises(UserError, match="the saved state is of another configuration"):
        train("romi", resume=str(first))


def test_a_setting_that_comes_new_keeps_states_readable_until_it_is_used():
    resolved = settle("iql", {"task": TASK})

    @dataclass(frozen=True)
    class Later(type(resolved.config)):
        new: float = 0.0

    told = {x.name: getattr(resolved.config, x.name) for x in fields(resolved.config)}
    later, used = (replace(resolved, config=Later(**told, new=new)) for new in (0.0, 1.0))
    assert config_hash(later) == config_hash(resolved) != config_hash(used)


def test_two_processes_cannot_train_in_one_folder(tiny_data, tmp_path):
    folder = stopped_run(tmp_path, 5, kill)
    with (
        RunFolder(folder).lock(),
        pytest.raises(UserError, match="another process is training in"),
    ):
        train("romi", resume=str(folder))


def test_the_manifest_tells_of_the_resumption(tiny_data, tmp_path):
    folder = stopped_run(tmp_path, 5, kill)
    train("romi", resume=str(folder), epoch=3)
    manifest = RunFolder(folder).manifest
    assert [entry["step"] for entry in manifest["resumed"]] == [4]
    assert manifest["config"]["epoch"] == {"value": 3, "source": "call"}


def test_the_command_line_says_how_to_go_on_and_does(tiny_data, tmp_path, capsys):
    words = ["train", "mopo", *flags(TINY_SETTINGS["mopo"] | {"log_root": tmp_path})]
    with at_update(5, terminate):
        assert cli.main(words) == 75
    said = capsys.readouterr()
    (folder,) = tmp_path.glob("*/*/seed_*")
    assert (said.out + said.err).count("go on with: ") == 1
    assert said.err.startswith("interrupted after step 6, state saved; go on with: ")
    assert "go on with: " in (folder / "record" / "consoleout_backup.txt").read_text()
    program, *printed = shlex.split(said.err.partition("go on with: ")[2])
    assert (program, printed) == ("offlinerlkit-romi", ["train", "mopo", "--resume", str(folder)])
    assert cli.main(printed) == 0
    assert cli.main(["train", "mopo", "--resume", str(folder), "--epoch", "1"]) == 2


def test_the_second_signal_does_not_wait(tiny_data, tmp_path):
    def twice(_):
        terminate()
        os.kill(os.getpid(), signal.SIGINT)

    with at_update(5, twice), pytest.raises(KeyboardInterrupt) as caught:
        run_tiny(tmp_path)
    assert not isinstance(caught.value, TrainingInterrupted)


def test_the_handlers_are_put_back(tiny_data, tmp_path):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    run_tiny(tmp_path)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_what_a_state_holds_is_all_that_differs_after_an_epoch(tiny_data, tmp_path):
    """Every tensor of the policy and its model that an epoch changes is in the state."""
    folder = Path(run_tiny(tmp_path).run_dir)
    store = StateStore(folder / "checkpoint")
    state = store.load(store.steps()[-1])
    for name in ("actor", "critic1_old", "dynamics", "weighting_net", "log_alpha", "baseline"):
        assert f"policy/{name}" in state
    assert {"fake_buffer", "dynamics/scaler", "generators", "means", "logger"} <= state.keys()
    model = torch.load(folder / "model" / "dynamics.pth", weights_only=True)
    assert differences(dict(model), dict(state["policy/dynamics"])) == []


def test_a_run_that_recorded_an_option_since_gone_is_read(tiny_data, tmp_path):
    folder = Path(train("iql", **TINY_SETTINGS["iql"], log_root=str(tmp_path)).run_dir)
    path = folder / "record" / "manifest.json"
    manifest = json.loads(path.read_text())
    gone = {"value": 3e-4, "source": "ours"}
    path.write_text(json.dumps(manifest | {"config": manifest["config"] | {"critic_lr": gone}}))
    resolved = RunFolder(folder).resolved
    assert resolved.config.critic_q_lr == 3e-4 and "critic_lr" not in resolved.sources
    assert load_policy(folder, device="cpu") is not None
