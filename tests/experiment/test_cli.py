import subprocess
import sys
from pathlib import Path

import pytest

import offlinerlkit_romi
from offlinerlkit_romi import cli
from tests.experiment.conftest import TINY_ROMI
from tests.support.programs import flags
from tests.support.stopping import before

RUN_EXAMPLE = Path(offlinerlkit_romi.__file__).parents[1] / "run_example"


def tiny_words(log_root):
    return ["train", "romi", *flags(TINY_ROMI | {"log_root": log_root})]


def test_train_then_evaluate_from_the_command_line(tiny_data, tmp_path, capsys):
    assert cli.main(tiny_words(tmp_path)) == 0
    (run_dir,) = tmp_path.glob("*/*/seed_*")
    assert "seed 0" in capsys.readouterr().out
    assert cli.main(["evaluate", str(run_dir), "--episodes", "1", "--device", "cpu"]) == 0
    assert "over 1 episodes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "error: unknown command 'trian': did you mean train?"),
        (["train", "rmi"], "error: unknown algorithm 'rmi': did you mean romi"),
        (["train", "--task", "x"], "error: the algorithm comes first: train romi --task x"),
        (["train", "romi", "--preset", "no"], "error: unknown romi preset 'no'"),
        (["train", "romi", "--task", "hoper-medium-v2"], "error: unknown task 'hoper-medium-v2'"),
        (["train", "romi", "--device", "cuda:99"], "error: --device cuda:99"),
        (["evaluate"], "error: the following arguments are required: run_dir; see `offlinerlkit"),
        (
            ["evaluate", "x", "--episodes", "few"],
            "error: --episodes: 'few' is no number; see `offl",
        ),
        (["evaluate", "nowhere"], "error: nowhere is not a run's folder"),
    ],
)
def test_bad_input_is_one_line_on_stderr_and_status_2(words, message, capsys):
    assert cli.main(words) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.startswith(message)
    assert shown.err.count("\n") == 1


def test_an_interrupt_is_one_line_and_status_130(capsys):
    def interrupt(words):
        raise KeyboardInterrupt

    with before(cli, "_train", interrupt):
        assert cli.main(["train", "romi"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "commands:"),
        (["--help"], "train <algo> [options]"),
        (["train"], "presets: paper, release, quick"),
        (["train", "--help"], "count_morl  presets: release, paper, quick"),
        (["train", "mopo", "--help"], "--penalty-coef X"),
        (["evaluate", "--help"], "of each condition; default: 10"),
        (["--version"], f"offlinerlkit-romi {offlinerlkit_romi.__version__}"),
    ],
)
def test_help_helps_and_ends_well(words, expected, capsys):
    assert cli.main(words) == 0
    assert expected in capsys.readouterr().out


@pytest.mark.parametrize("algo", ["romi", "rambo", "mopo"])
def test_a_run_script_is_train_under_the_kits_name(algo):
    command = [sys.executable, str(RUN_EXAMPLE / f"run_{algo}.py"), "--preset", "none"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: unknown {algo} preset 'none'")
