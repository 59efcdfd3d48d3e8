"""The first thing a newcomer runs."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest

from offlinerlkit_romi.experiment.command_line import parse
from offlinerlkit_romi.experiment.resolve import settle

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("demo", ROOT / "run_example" / "demo.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def configuration(example, words):
    """What the demo would train with these words."""
    seen = []
    assert example.demo(words, run=lambda told: seen.append(told) or 2) == 2
    ((train, algo, *rest),) = seen
    assert (train, algo) == ("train", "romi")
    return parse("romi", rest).config


def test_its_constants_are_the_presets(example):
    config = settle("romi", {"task": example.TASK, "preset": "demo"}).config
    assert (config.epoch, config.dynamics_max_epochs) == (example.EPOCHS, example.FIT_EPOCHS)
    assert config.data == "generated"


@pytest.mark.parametrize(("epochs", "fit"), [("11", 8), ("3", 2), ("1", 1), ("90", 8)])
def test_fewer_epochs_shorten_the_pre_training_in_proportion(example, epochs, fit):
    config = configuration(example, ["--epoch", epochs])
    assert (config.epoch, config.dynamics_max_epochs) == (int(epochs), fit)


def test_it_says_what_comes_and_after_it_three_commands_that_parse(example, tmp_path, capsys):
    run = tmp_path / example.TASK / "romi&data=generated" / "seed_0&timestamp_1"
    run.mkdir(parents=True)
    assert example.demo(["--log-root", str(tmp_path)], run=lambda told: 0) == 0
    shown = capsys.readouterr().out
    assert shown.index("make data") < shown.index("fit a model") < shown.index("train a policy")
    commands = [shlex.split(c) for c in re.findall(r"^  \S*offlinerlkit-romi (.*)$", shown, re.M)]
    assert [words[0] for words in commands] == ["evaluate", "compare", "train"]
    assert commands[0][1] == str(run)


def test_what_failed_ends_with_its_status_and_no_advice(example, capsys):
    assert example.demo([], run=lambda told: 3) == 3
    assert "Try next" not in capsys.readouterr().out
