import re
from dataclasses import fields

import pytest

from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.experiment.algorithms import ALGORITHMS
from offlinerlkit_romi.experiment.command_line import parse
from offlinerlkit_romi.experiment.config import flag


def config(*words, algo="romi"):
    return parse(algo, words).config


def test_the_kits_flags_work_with_dashes_and_underscores():
    made = config(
        *("--task", "hopper-medium-v2", "--actor-lr", "3e-4", "--rollout_freq", "500"),
        *("--eval_episodes", "3", "--hidden-dims", "64", "32", "--load-dynamics-path", "somewhere"),
        *("--target-entropy", "-3", "--seed=7", "--dynamics_weight_decay", "0", "0", "0", "0", "1"),
    )
    assert (made.actor_lr, made.rollout_freq, made.eval_episodes) == (3e-4, 500, 3)
    assert (made.hidden_dims, made.load_dynamics_path) == ((64, 32), "somewhere")
    assert (made.target_entropy, made.seed) == (-3.0, 7)
    assert made.dynamics_weight_decay == (0, 0, 0, 0, 1)


@pytest.mark.parametrize(
    ("words", "value"),
    [
        ([], True),
        (["--auto-alpha"], True),
        (["--no-auto-alpha"], False),
        (["--auto-alpha", "False"], False),
        (["--auto_alpha=false"], False),
        (["--auto-alpha", "True"], True),
        (["--no_auto_alpha"], False),
    ],
)
def test_a_switch_means_what_it_says(words, value):
    assert config(*words).auto_alpha is value


@pytest.mark.parametrize(
    ("words", "schedule"),
    [
        (["--lr-decay", "True"], "cosine"),
        (["--lr_decay=False"], "constant"),
        (["--lr-scheduler"], "cosine"),
        (["--lr-scheduler", "False"], "constant"),
    ],
)
def test_the_kits_switches_for_the_schedule_are_understood(words, schedule):
    assert config(*words, algo="iql").actor_lr_schedule == schedule


def test_the_released_scripts_names_are_understood():
    made = config("--epsilon", "0.3", "--n-samples", "20")
    assert (made.xi, made.num_perturbations) == (0.3, 20)
    with pytest.raises(UserError, match="unknown flag '--epsilon'"):
        config("--epsilon", "0.3", algo="mopo")


def test_task_and_preset_choose_the_defaults_and_flags_override_them():
    made = parse("romi", ["--task", "hopper-medium-v2", "--preset", "quick", "--epoch", "3"])
    assert (made.config.xi, made.config.adv_train_steps, made.config.epoch) == (1.0, 50, 3)
    assert made.sources["epoch"] == made.sources["task"] == "command line"
    assert made.sources["adv_train_steps"].startswith("preset quick")


def test_help_has_field_docs_presets_and_the_values_of_task_and_preset(capsys):
    with pytest.raises(SystemExit) as end:
        parse("romi", ["--task", "hopper-medium-v2", "--preset", "quick", "--help"])
    assert end.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "Scale of the uncertainty set around a next state" in text
    assert "larger is more conservative. (default: 1.0)" in text
    assert "--adv-train-steps N Model updates per round (K). (default: 50)" in text
    assert "--auto-alpha, --no-auto-alpha" in text
    assert "release: what the published code computes" in text
    assert "Defaults shown are those for --task hopper-medium-v2 --preset quick" in text
    assert "arXiv 2603.08118" in text


def test_every_option_is_documented(capsys):
    for algo, kind in ALGORITHMS.items():
        with pytest.raises(SystemExit):
            parse(algo, ["--help"])
        text = capsys.readouterr().out
        for field in fields(kind):
            entry = re.split(rf"(?m)^ *{flag(field.name)}[ ,]", text)[1].partition("(default")[0]
            assert "." in entry and len(entry.split()) >= 4, field.name


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--actor-rl", "1"], "unknown flag '--actor-rl': did you mean --actor-lr"),
        (
            ["--epoch", "many"],
            "--epoch: 'many' is no number; see `offlinerlkit-romi train romi --help`",
        ),
        (
            ["--variant", "exat"],
            "unknown value of --variant 'exat': did you mean exact? choose from",
        ),
        (["--auto-alpha=maybe"], "--auto-alpha is 'maybe': write True or False"),
        (["--preset", "papre"], "unknown romi preset 'papre': did you mean paper"),
        (["--real-ratio", "2"], "--real-ratio is 2.0: it must be 1 or less"),
        (["--no-reward-likelihood"], "--no-reward-likelihood: variant exact has no reward term"),
        (["--include-ent-in-adv"], "unknown flag '--include-ent-in-adv'"),
        (["--variant", "release", "--adv-batch-size", "6"], "give a multiple of 4"),
        (["loose"], "'loose' is a word too many; see `offlinerlkit-romi train romi --help`"),
    ],
)
def test_a_wrong_word_is_one_line(words, message, capsys):
    with pytest.raises(UserError) as caught:
        parse("romi", words)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    shown = capsys.readouterr()
    assert shown.out == shown.err == ""
