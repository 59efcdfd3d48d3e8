"""A part of an algorithm that a run leaves out is said at the start and at the end."""

import json
from pathlib import Path

import pytest

from offlinerlkit_romi.experiment.algorithms import ALGORITHMS
from offlinerlkit_romi.experiment.config import left_out
from offlinerlkit_romi.experiment.resolve import preset_names, settle
from offlinerlkit_romi.experiment.run import train
from tests.experiment.conftest import TINY_SETTINGS

SHORT = {"epoch": 4, "step_per_epoch": 100}


def notes(algo, **values):
    return left_out(settle(algo, values).config)


@pytest.mark.parametrize("algo", ["romi", "rambo"])
def test_a_run_too_short_for_a_model_update_is_told(algo):
    (line,) = notes(algo, **SHORT, dynamics_update_freq=1000)
    assert line == (
        "no model updates in this run: it ends after 400 policy steps, and "
        "--dynamics-update-freq is 1000"
    )
    assert not notes(algo, **SHORT, dynamics_update_freq=400)
    (line,) = notes(algo, **SHORT, dynamics_update_freq=0)
    assert line == "no model updates in this run: --dynamics-update-freq is 0"


@pytest.mark.parametrize("algo", [a for a, kind in ALGORITHMS.items() if kind().model])
def test_a_single_rollout_comes_from_a_policy_that_has_learned_nothing(algo):
    values = {"epoch": 2, "step_per_epoch": 100, "dynamics_update_freq": 1}
    values = {n: x for n, x in values.items() if hasattr(ALGORITHMS[algo], n)}
    (line,) = notes(algo, **values, rollout_freq=200)
    assert line == (
        "one rollout in this run, at its first policy step: it ends after 200 policy steps, and "
        "--rollout-freq is 200"
    )
    assert not notes(algo, **values, rollout_freq=199)


def test_a_round_after_the_last_step_changes_no_policy_step_and_is_told():
    (line,) = notes("rombrl", **SHORT, dynamics_update_freq=400, rollout_freq=100)
    assert line.startswith("one model update in this run, after its last policy step: ")


def test_td3s_actor_that_is_stepped_once_is_told():
    (line,) = notes("td3bc", **SHORT, update_actor_freq=400)
    assert line.startswith("one actor update in this run, at its first policy step: ")
    assert not notes("td3bc", **SHORT, update_actor_freq=399)


def test_a_batch_without_model_or_data_rows_is_told():
    (line,) = notes("mopo", real_ratio=1.0)
    assert line == "no model transitions in a policy batch: --real-ratio is 1.0"
    (line,) = notes("mopo", real_ratio=0.001)
    assert line == "no transitions of the data in a policy batch: --real-ratio is 0.001"


# switched off where it was published so, and said
OFF_BY_PRESET = {("rambo", "official"): "--dynamics-update-freq is 0"}


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_no_preset_leaves_a_part_out_unless_it_was_published_so(algo):
    for preset in ["default", *preset_names(algo)]:
        for task in ("halfcheetah-random-v2", "walker2d-medium-v2", "antmaze-umaze-v0"):
            told = notes(algo, task=task, preset=preset)
            reason = OFF_BY_PRESET.get((algo, preset), "nothing is to be said")
            assert all(line.endswith(reason) for line in told), (task, preset, told)


def summary_of(algo, tmp_path, **values):
    told = TINY_SETTINGS[algo] | {"log_root": str(tmp_path)} | values
    run = train(algo, **told, verbosity=2)
    return run, json.loads((Path(run.run_dir) / "result" / "summary.json").read_text())["counts"]


def test_it_is_said_at_the_start_and_in_the_summary(tiny_data, tmp_path, capsys):
    run, stored = summary_of("romi", tmp_path, dynamics_update_freq=9)
    assert stored == run.counts == {"rollouts": 4, "model_updates": 0}
    shown = capsys.readouterr().out
    note, table = shown.index("note: no model updates in this run"), shown.index("first evaluation")
    assert note < shown.index("epoch 1/2") < table
    assert "  model updates                    0  never in this run" in shown


@pytest.mark.parametrize(
    ("algo", "values", "expected"),
    [
        ("romi", {}, {"rollouts": 4, "model_updates": 6}),
        ("rambo", {"rollout_freq": 3}, {"rollouts": 3, "model_updates": 6}),
        ("mopo", {"rollout_freq": 100}, {"rollouts": 1}),
        ("td3bc", {"update_actor_freq": 3}, {"actor_updates": 3}),
        ("bc", {}, {}),
    ],
)
def test_the_summary_counts_what_was_done(algo, values, expected, tiny_data, tmp_path):
    run, stored = summary_of(algo, tmp_path, **values)
    assert stored == expected
    assert all(f"  {name.replace('_', ' ')} " in run.table() for name in expected)


def test_a_resumed_run_counts_both_its_parts(tiny_data, tmp_path):
    first, _ = summary_of("romi", tmp_path, epoch=1, keep_state=True)
    _, stored = summary_of("romi", tmp_path, epoch=2, keep_state=True, resume=first.run_dir)
    assert stored == {"rollouts": 4, "model_updates": 6}
