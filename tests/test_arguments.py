"""One parser for all commands: what it takes, and the one line with which it refuses."""

import pytest

from offlinerlkit_romi import cli
from offlinerlkit_romi.arguments import Parser
from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.experiment.command_line import parse

REFUSED = {
    "data verb": (["data", "lst"], "unknown data command 'lst': did you mean list? choose from"),
    "data flag": (["data", "fetch", "--forc"], "unknown flag '--forc': did you mean --force?"),
    "data task": (["data", "fetch"], "TASK is missing: `offlinerlkit-romi data list`"),
    "data spelling": (
        ["data", "fetch", "hoper-medium-v2"],
        "unknown task 'hoper-medium-v2': did you mean hopper-medium-v2",
    ),
    "one seed": (
        ["train", "romi", "--seed", "0", "1", "2"],
        "--seed takes one value, not 0 1 2: did you mean --seeds 0 1 2?",
    ),
    "one epoch": (["train", "romi", "--epoch", "1", "2"], "--epoch takes one value, not 1 2: see"),
    "evaluate flag": (["evaluate", "x", "--episods", "3"], "did you mean --episodes"),
    "evaluate seed": (["evaluate", "x", "--seed", "0", "1"], "--seed takes one value, not 0 1"),
    "export word": (["export", "x", "y"], "'y' is a word too many; see"),
    "bench choice": (
        ["bench", "--engine", "grph"],
        "unknown value of --engine 'grph': did you mean graph? choose from auto, eager, graph",
    ),
    "bench flag": (["bench", "--thread", "1"], "unknown flag '--thread': did you mean --threads"),
    "bench number": (["bench", "--threads", "1.5"], "--threads: '1.5' is no whole number; see"),
    "train number": (["train", "iql", "--epoch", "1.5"], "--epoch: '1.5' is no whole number"),
    "train nothing": (["train", "iql", "--hidden-dims"], "--hidden-dims: expected at least one"),
    "train task": (["train", "iql", "--task"], "--task: expected one argument; see `offlinerlkit"),
    "compare seeds": (
        ["compare", "--algos", "iql", "--seeds", "a"],
        "--seeds: 'a' is no number; see `offlinerlkit-romi compare --help`",
    ),
}


@pytest.mark.parametrize(("words", "said"), REFUSED.values(), ids=REFUSED.keys())
def test_a_wrong_word_ends_in_one_line_that_says_what_to_write(words, said, capsys):
    assert cli.main(words) == 2
    error = capsys.readouterr().err
    assert said in error and error.startswith("error: ") and error.count("\n") == 1


@pytest.mark.parametrize(
    ("word", "value"), [("1e3", 1000), ("1E3", 1000), ("2_000", 2000), ("5.0", 5), ("7", 7)]
)
def test_a_whole_number_may_be_written_with_an_exponent(word, value):
    assert parse("iql", ["--epoch", word]).config.epoch == value
    parser = Parser()
    parser.add_argument("--episodes", type=int)
    found = parser.parse_args(["--episodes", word]).episodes
    assert found == value and isinstance(found, int)


@pytest.mark.parametrize("word", ["-1e-3", "-.5", "-2", "-2.5E1"])
def test_a_negative_number_is_no_flag(word):
    assert parse("iql", ["--reward-bias", word]).config.reward_bias == float(word)


@pytest.mark.parametrize("word", ["inf", "nan", "-inf", "1e400"])
def test_a_number_without_an_integer_is_refused(word):
    parser = Parser()
    parser.add_argument("--episodes", type=int)
    with pytest.raises(UserError, match=f"--episodes: '{word}' is no whole number"):
        parser.parse_args(["--episodes", word])


def test_none_is_a_value_where_a_setting_may_be_none():
    words = ["--dynamics-max-epochs", "None", "--load-dynamics-path", "None"]
    made = parse("mopo", [*words, "--action-bounds", "None", "--eval-async", "None"])
    config = made.config
    assert config.dynamics_max_epochs is config.action_bounds is config.eval_async is None
    assert made.sources["dynamics_max_epochs"] == made.sources["eval_async"] == "command line"
    with pytest.raises(UserError, match="'None' is no number"):
        parse("mopo", ["--epoch", "None"])


def test_a_task_is_taken_by_position_and_by_name():
    from offlinerlkit_romi.data import commands

    for words in (["a", "b"], ["--task", "a", "b"], ["--force", "a", "b"]):
        for verb in ("fetch", "generate"):
            assert commands.parser().parse_args([verb, *words]).task == ["a", "b"]
    assert commands.parser().parse_args(["info", "a"]).task == "a"


def test_the_last_of_two_values_wins():
    assert parse("iql", ["--epoch", "1", "--epoch=2"]).config.epoch == 2


def test_a_missing_preset_file_is_named_in_one_line(monkeypatch, capsys):
    from offlinerlkit_romi.experiment.algorithms import ALGORITHMS
    from offlinerlkit_romi.experiment.algorithms.bc import BCConfig

    monkeypatch.setitem(ALGORITHMS, "novel", BCConfig)
    monkeypatch.setattr(ALGORITHMS, "own", ALGORITHMS.own | {"novel"})
    for words in (["train", "novel"], ["train", "novel", "--help"], ["train", "--help"]):
        assert cli.main(words) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: novel has no preset file: add presets/novel.yaml")
        assert error.count("\n") == 1


def test_an_unknown_source_names_every_kind_of_data(capsys):
    assert cli.main(["data", "info", "hopper-medium-v2", "--data", "d4lr"]) == 2
    error = capsys.readouterr().err
    for kind in (".npz", ".hdf5", ".h5", ".csv", ".parquet", "folder", ".yaml", "minari:ID"):
        assert kind in error
