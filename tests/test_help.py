"""Help of every command: torch is not loaded for it, what people need comes first."""

import itertools
import json
import subprocess
import sys

import pytest

from offlinerlkit_romi import cli
from offlinerlkit_romi.experiment.algorithms import ALGORITHMS

DATA = ("list", "fetch", "generate", "info", "convert", "mix", "doctor", "train-behaviour")
COMMANDS = ("train", "evaluate", "export", "enjoy", "compare", "config", "data", "bench")
VERBS = [
    ["--help"],
    *([verb, "--help"] for verb in COMMANDS),
    *(["train", algo, "--help"] for algo in ALGORITHMS),
    *(["data", command, "--help"] for command in DATA),
    *(["config", command, "--help"] for command in ("show", "diff")),
]
HEAVY = ("torch", "pandas", "matplotlib", "gymnasium", "mujoco")
PROGRAM = """
import contextlib, io, json, sys
from offlinerlkit_romi import cli
with contextlib.redirect_stdout(io.StringIO()) as shown:
    status = cli.main({words!r})
heavy = [name for name in {heavy!r} if name in sys.modules]
print(json.dumps([status, len(shown.getvalue()), heavy]))
"""
TEN = ("task", "preset", "data", "seed", "seeds", "epoch", "eval-episodes", "device")
TEN += ("log-root", "resume")
ORDER = ("what most people set", "presets (--preset NAME)", "this algorithm", "actor and critics")
ORDER += ("schedule and evaluation", "model", "data", "machine", "run folder and resuming")


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")


def shown(capsys, *words):
    assert cli.main(words) == 0
    return capsys.readouterr().out


def test_no_help_loads_torch():
    program = "\n".join(PROGRAM.format(words=words, heavy=HEAVY) for words in VERBS)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(results) == len(VERBS), done.stderr
    for words, (status, length, heavy) in zip(VERBS, results, strict=True):
        assert (status, heavy) == (0, []) and length > 60, words


@pytest.mark.parametrize("words", [["train"], *(["train", algo] for algo in ALGORITHMS)])
def test_the_first_screen_has_the_ten_options_people_use(words, capsys):
    first = shown(capsys, *words, "--help").splitlines()[:24]
    found = [line.split()[0] for line in first if line.startswith("  --")]
    assert found == [f"--{name}" for name in TEN]


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_groups_follow_in_order_and_hold_every_setting_once(algo, capsys):
    lines = shown(capsys, "train", algo, "--help").splitlines()
    titles = [line.removesuffix(":") for line in lines if line.endswith(":") and line[0] != " "]
    assert titles == [title for title in ORDER if title in titles]
    assert {*ORDER} - {*titles} <= {"model", "this algorithm"}  # cloning has none of its own
    options = [line.split()[0].rstrip(",") for line in lines if line.startswith("  --")]
    settings = {f"--{name.replace('_', '-')}" for name in ALGORITHMS[algo].__dataclass_fields__}
    assert sorted(options) == sorted(settings | {"--seeds"})


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_every_option_shows_its_default(algo, capsys):
    text = shown(capsys, "train", algo, "--help")
    entries = text.split("\n  --")[1:]
    without = [entry.split()[0] for entry in entries if "(default:" not in entry]
    assert without == ["seeds"]


def test_own_settings_come_first_and_shared_ones_in_their_groups(capsys):
    text = shown(capsys, "train", "combo", "--help")
    by_title = dict(part.partition(":\n")[::2] for part in text.split("\n\n") if ":\n" in part)
    places = {
        "--uniform-rollout": "this algorithm",
        "--cql-weight": "this algorithm",
        "--compat": "this algorithm",
        "--critic-lr": "actor and critics",
        "--hidden-dims": "actor and critics",
        "--step-per-epoch": "schedule and evaluation",
        "--rollout-length": "model",
        "--transitions": "data",
        "--threads": "machine",
        "--checkpoint-freq": "run folder and resuming",
    }
    for name, title in places.items():
        assert f"\n  {name} " in f"\n{by_title[title]}".replace(",", " "), name


@pytest.mark.parametrize("words", VERBS, ids=" ".join)
def test_no_text_is_wrapped_twice(words, capsys):
    """No line but a command is wider than the terminal; none ends before a word that had room."""
    _, _, text = shown(capsys, *words).partition("\n\n")  # the usage is argparse's
    lines = text.splitlines()
    if words != ["--help"]:  # written by hand
        told = [line for line in lines if not line.startswith("  offlinerlkit-romi")]
        assert max(map(len, told)) <= 80
    for line, after in itertools.pairwise(lines):
        indent = len(line) - len(line.lstrip())
        if 20 < indent == len(after) - len(after.lstrip()):
            assert len(line) + 1 + len(after.split()[0]) > 78, line
