"""`config show` and `config diff`: what a setting is, who says so, and where two presets part."""

from __future__ import annotations

import json

import pytest

from offlinerlkit_romi import cli
from offlinerlkit_romi.envs.tasks import TASKS
from offlinerlkit_romi.experiment.algorithms import ALGORITHMS
from offlinerlkit_romi.experiment.facts import differences
from offlinerlkit_romi.experiment.resolve import preset_names, resolve

Capture = pytest.CaptureFixture[str]


def told(words: str, capsys: Capture) -> str:
    assert cli.main(["config", *words.split()]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_show_tells_every_settings_value_and_source_as_training_would_use_it(
    algo: str, capsys: Capture
) -> None:
    found = json.loads(told(f"show {algo} --task hopper-medium-v2 --json", capsys))
    resolved = resolve(algo, "hopper-medium-v2")
    assert {name: entry["source"] for name, entry in found.items()} == resolved.sources
    assert found["epoch"]["value"] == resolved.config.epoch
    assert found["task"]["value"] == "hopper-medium-v2"


def test_show_prints_a_line_per_setting(capsys: Capture) -> None:
    lines = told("show romi --task hopper-medium-v2", capsys).splitlines()
    assert lines[0].split() == ["setting", "value", "source"]
    (epoch,) = (line for line in lines if line.startswith("epoch "))
    assert epoch.split(maxsplit=2)[1:] == ["1000", "ROMI paper, Table 3"]


def test_diff_tells_what_the_kit_and_the_authors_set_otherwise(capsys: Capture) -> None:
    shown = told("diff rambo --a kit --b official --task hopper-medium-replay-v2", capsys)
    block = shown[shown.index("rollout_length") :].splitlines()
    assert block[1].startswith("  kit       5  (preset kit: OfflineRL-Kit run_rambo.py")
    assert block[2].startswith(
        "  official  2  (preset official: RAMBO authors' configs, row hopper"
    )
    assert "gamma" not in shown and "preset\n" not in shown


@pytest.mark.parametrize("algo", ["rambo", "romi"])
def test_without_a_task_diff_names_the_tasks_of_each_difference(algo: str) -> None:
    (a, b), tasks = list(preset_names(algo))[:2], list(TASKS)
    found = differences(algo, a, b, tasks)
    for task in ("walker2d-medium-v2", "halfcheetah-random-v2"):
        here = {entry["setting"] for entry in found if task in entry["tasks"]}
        one, other = (vars(resolve(algo, task, preset).config) for preset in (a, b))
        assert here == {name for name in one if one[name] != other[name]} - {"preset"}
    assert any(len(entry["tasks"]) == len(tasks) for entry in found)


def test_presets_that_agree_say_so(capsys: Capture) -> None:
    assert told("diff romi", capsys) == "default and default set the same values\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("show rombo", "did you mean rambo"),
        ("show", "ALGO"),
        ("", "COMMAND"),
        ("shwo romi", "show"),
        ("show romi --task hoppr-medium-v2", "hopper-medium-v2"),
        ("show rambo --preset oficial", "did you mean official"),
        ("diff rambo --a kit --b oficial", "did you mean official"),
        ("diff rambo --c kit", "--a"),
        ("diff rambo kit official", "word too many"),
        ("show romi --task", "--task"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_line(
    words: str, message: str, capsys: Capture
) -> None:
    assert cli.main(["config", *words.split()]) == 2
    shown = capsys.readouterr().err
    assert message in shown and shown.count("\n") == 1
