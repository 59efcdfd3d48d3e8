"""Evaluating beside training gives what evaluating in between gives."""

import os
import select
import signal
import time
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch

from offlinerlkit_romi.engine import Generators, StateStore
from offlinerlkit_romi.envs import Task, get_task
from offlinerlkit_romi.envs.custom import CustomTask
from offlinerlkit_romi.experiment.algorithms import ALGORITHMS
from offlinerlkit_romi.experiment.build import Setting, build_policy
from offlinerlkit_romi.experiment.command_line import parse
from offlinerlkit_romi.experiment.evaluation import evaluates_in_worker, make_evaluation
from offlinerlkit_romi.experiment.parts import prepare
from offlinerlkit_romi.experiment.resolve import settle
from offlinerlkit_romi.policy_trainer.snapshots import acting_weights
from tests.experiment.conftest import TINY_SETTINGS, make_dataset
from tests.faults.harness import PHASES, _fork, command, run_whole, write_data
from tests.support.comparing import differences, outcome
from tests.support.processes import assert_gone

TASK = get_task("halfcheetah-random-v2")
CPU = torch.device("cpu")
SHIFTS = ("min_q:0.1:std", "mass:0.8")
ASYNC = {"eval_async": True, "eval_freq": 1, "keep_state": True}
needs_proc = pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds processes in /proc")


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_the_twin_acts_like_the_policy_whose_weights_it_is_given(algo):
    config = settle(algo, TINY_SETTINGS[algo] | {"eval_episodes": 1}).config
    dataset = make_dataset()
    setting, _ = prepare(config, dataset, CPU, Generators(5, CPU))
    policy = build_policy(config, setting)
    with torch.no_grad():
        for parameter in policy.actor.parameters():
            parameter.add_(0.1)
    policy.eval()
    judge = make_evaluation(config, setting, get_task(config.task), print)._recipe.judge()
    seen = []

    class Episodes:
        def load_state_dict(self, state):
            seen.append(state["calls"])

        def __call__(self, twin):
            seen.append(twin.select_action(dataset.observations[:7], deterministic=True))
            assert not twin.training
            return type("Result", (), {"returns": np.zeros(1), "lengths": np.ones(1)})

    judge._scorer.evaluator = Episodes()
    judge(3, {name: value.numpy() for name, value in acting_weights(policy).items()})
    assert seen[0] == 3
    expected = policy.select_action(dataset.observations[:7], deterministic=True)
    np.testing.assert_array_equal(seen[1], expected)


def folder_of(root):
    (papers,) = root.glob("*/*/seed_*/record/manifest.json")
    return papers.parents[1]


@pytest.mark.slow
@pytest.mark.parametrize("algo", ["romi", "rambo", "iql", "td3bc"])
def test_beside_training_and_in_between_give_one_outcome(algo, tmp_path):
    data = write_data(tmp_path / "data.hdf5")
    told = ASYNC | {"epoch": 2, "step_per_epoch": 5}
    told |= {"eval_shift": SHIFTS} if algo == "td3bc" else {}
    for asynchronous in (True, False):
        changes = told | {"eval_async": asynchronous}
        assert run_whole(command(algo, data, tmp_path / str(asynchronous), **changes)) == 0
    beside, between = (folder_of(tmp_path / name) for name in ("True", "False"))
    assert "evaluation in a worker process" in (beside / "record/consoleout_backup.txt").read_text()
    for folder, there in ((beside, True), (between, False)):
        header = (folder / "record/policy_training_progress.csv").read_text().splitlines()[0]
        assert ("time/ms_per_evaluation_worker" in header) == there
    assert differences(outcome(beside), outcome(between)) == []


def children_of(pid):
    return {int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()} | {
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    }


def started(words, phase, entry):
    """A run that has entered a phase so often; its number, its worker's, its reports."""
    pid, pipe = _fork(words)
    wanted, reports = list(PHASES).index(phase), os.fdopen(pipe, "rb", buffering=0)
    end = time.monotonic() + 120
    while entry and time.monotonic() < end:
        if select.select([reports], [], [], 1.0)[0]:
            entry -= reports.read(1) == bytes([wanted])
    assert not entry
    while not (children := children_of(pid)) and time.monotonic() < end:
        time.sleep(0.01)
    (worker,) = children
    return pid, worker, reports


@pytest.mark.slow
@needs_proc
def test_killed_with_evaluations_under_way_a_run_resumes_to_the_uninterrupted_one(tmp_path):
    data = write_data(tmp_path / "data.hdf5")
    changes = ASYNC | {"step_per_epoch": 5, "eval_shift": SHIFTS}
    words = command("iql", data, tmp_path / "parts", **changes)
    pid, worker, reports = started(words, "evaluation start", 3)
    with reports:
        os.kill(pid, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert_gone(worker)
    folder = folder_of(tmp_path / "parts")
    store = StateStore(folder / "checkpoint")
    assert store.load(store.steps()[-1])["trainer"]["waiting"]
    assert run_whole(command("iql", data, tmp_path / "parts", resume="auto", **changes)) == 0
    whole = command("iql", data, tmp_path / "whole", **changes | {"eval_async": False})
    assert run_whole(whole) == 0
    assert differences(outcome(folder_of(tmp_path / "whole")), outcome(folder)) == []


@pytest.mark.slow
@needs_proc
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_everyone_saves_what_is_pending_and_leaves_nobody(number, tmp_path):
    data = write_data(tmp_path / "data.hdf5")
    words = command("iql", data, tmp_path / "parts", **ASYNC, step_per_epoch=5)
    pid, worker, reports = started(words, "evaluation start", 2)
    with reports:
        for process in (worker, pid):  # as a scheduler does, and Ctrl-C
            os.kill(process, number)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 75
    assert_gone(worker)
    text = (folder_of(tmp_path / "parts") / "record/consoleout_backup.txt").read_text()
    assert "state saved" in text and "worker was lost" not in text


@pytest.mark.slow
@needs_proc
def test_a_run_whose_worker_is_killed_ends_as_if_nothing_had_been(tmp_path):
    data = write_data(tmp_path / "data.hdf5")
    words = command("iql", data, tmp_path / "hit", **ASYNC)
    pid, worker, reports = started(words, "evaluation start", 1)
    with reports:
        os.kill(worker, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    folder = folder_of(tmp_path / "hit")
    text = (folder / "record/consoleout_backup.txt").read_text()
    assert text.count("the evaluation worker was lost (signal 9): starting another") == 1
    assert run_whole(command("iql", data, tmp_path / "whole", **ASYNC | {"eval_async": False})) == 0
    assert differences(outcome(folder_of(tmp_path / "whole")), outcome(folder)) == []


@pytest.mark.parametrize(
    ("told", "functions", "device", "count", "expected"),
    [
        (None, (), "cuda", 1, True),
        (None, (), "cpu", 2, False),
        (None, (), "cpu", 3, True),
        (False, (), "cuda", 64, False),
        (True, (), "cpu", 1, True),
        (True, (("env", dict),), "cuda", 64, False),
    ],
)
def test_a_worker_is_used_where_a_core_is_free_unless_told(
    told, functions, device, count, expected, cores
):
    cores(count)
    config = settle("iql", {"eval_async": told}).config
    facts = {f.name: getattr(TASK, f.name) for f in fields(Task)}
    task = CustomTask(**facts, functions=functions)
    assert evaluates_in_worker(config, task, torch.device(device)) is expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], None),
        (["--eval-async"], True),
        (["--no-eval-async"], False),
        (["--eval_async", "False"], False),
        (["--eval-async=1"], True),
    ],
)
def test_the_switch_can_be_left_out_set_and_unset(words, expected):
    assert parse("iql", words).config.eval_async is expected


def test_settings_of_an_evaluation_do_not_come_from_the_training_device():
    config = settle("td3bc", {"eval_episodes": 1}).config
    setting = Setting(17, 6, torch.device("meta"), Generators(0, CPU))
    judge = make_evaluation(config, setting, get_task(config.task), print)._recipe.judge()
    assert judge._twin.tensor_device.type == "cpu"
