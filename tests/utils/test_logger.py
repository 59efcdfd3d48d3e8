import json
import os
from pathlib import Path

import numpy as np
import pytest

from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.utils import logger as logger_module
from offlinerlkit_romi.utils.logger import BACKUP, Logger, load_args, make_log_dirs
from tests.policy_trainer.conftest import OUTPUTS
from tests.support.training import rows_of

KIT_OUTPUT = OUTPUTS | {"tb": "tensorboard"}


@pytest.fixture
def logger(tmp_path):
    made = Logger(str(tmp_path / "run"), KIT_OUTPUT)
    yield made
    made.close()


def test_a_run_folder_has_the_kits_shape(logger, tmp_path):
    folders = sorted(os.listdir(tmp_path / "run"))
    assert folders == ["checkpoint", "model", "record", "result"]
    assert sorted(os.listdir(logger.record_dir)) == [
        "consoleout_backup.txt",
        "dynamics_training_progress.csv",
        "policy_training_progress.csv",
        "tb",
    ]


def test_a_dump_goes_to_every_file_that_is_not_excluded(logger, capsys):
    logger.logkv("loss/actor", 1.5)
    logger.set_timestep(1000)
    logger.dumpkvs(exclude=["dynamics_training_progress", "stdio"])
    assert rows_of(logger) == [{"loss/actor": "1.5", "timestep": "1000"}]
    assert rows_of(logger, "dynamics_training_progress") == []
    assert "loss/actor" not in capsys.readouterr().out
    backup = (Path(logger.record_dir) / "consoleout_backup.txt").read_text()
    assert "| loss/actor | 1.5  |" in backup


def test_a_new_key_adds_a_column_and_keeps_the_earlier_rows(logger):
    logger.logkv("b", 1)
    logger.dumpkvs()
    logger.logkv("a", 2)
    logger.dumpkvs()
    assert [(row["b"], row["a"]) for row in rows_of(logger)] == [("1", ""), ("", "2")]


def test_logkv_mean_averages_and_logkv_keeps_the_last(logger):
    for value in (1.0, 2.0, 6.0):
        logger.logkv_mean("mean", value)
        logger.logkv("last", value)
    logger.dumpkvs()
    logger.logkv_mean("mean", 5.0)
    logger.dumpkvs()
    rows = rows_of(logger)
    assert [row["mean"] for row in rows] == ["3.0", "5.0"]
    assert rows[0]["last"] == "6.0"


def test_hyper_parameters_come_back_through_load_args(logger):
    logger.log_hyperparameters({"tau": 0.005, "dims": (256, 256), "mean": np.ones(2)})
    loaded = load_args(os.path.join(logger.record_dir, "hyper_param.json"))
    assert (loaded.tau, loaded.dims, loaded.mean) == (0.005, [256, 256], [1.0, 1.0])


def test_messages_reach_console_and_file_and_backup_level_the_file_alone(logger, capsys):
    logger.log("both")
    logger.log("file only", BACKUP)
    logger.set_level(logger_module.WARN)
    logger.log("dropped")
    assert capsys.readouterr().out == "both\n"
    backup = (Path(logger.record_dir) / "consoleout_backup.txt").read_text()
    assert backup == "both\nfile only\n"


def test_two_runs_in_one_second_get_two_folders(tmp_path):
    made = {make_log_dirs("task", "romi", 0, {}, root=str(tmp_path)) for _ in range(3)}
    assert len(made) == 3 and all(os.path.isdir(path) for path in made)


def test_the_default_root_is_log_in_the_current_folder(here):
    path = make_log_dirs("hopper", "romi", 3, {"data": "generated"}, ["data"])
    assert path.startswith(os.path.join("log", "hopper", "romi&data=generated", "seed_3&timestamp"))


def test_a_folder_that_cannot_be_made_is_one_clear_line(tmp_path):
    (tmp_path / "log").write_text("a file, not a folder")
    with pytest.raises(UserError, match=r"cannot create the run folder .*--log-root"):
        make_log_dirs("task", "romi", 0, {}, root=str(tmp_path / "log"))


def test_one_folder_takes_one_run(tmp_path):
    Logger(str(tmp_path / "run"), {}).close()
    with pytest.raises(UserError, match="exists already"):
        Logger(str(tmp_path / "run"), {})


def test_an_unknown_output_kind_names_the_known_ones(tmp_path):
    with pytest.raises(UserError, match=r"'wandb': choose from \['csv', 'stdout', 'tensorboard'\]"):
        Logger(str(tmp_path / "run"), {"x": "wandb"})
    assert not (tmp_path / "run").exists()


def test_load_args_names_what_is_wrong_with_the_file(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        load_args(str(tmp_path / "absent.json"))
    (tmp_path / "bad.json").write_text("not json")
    with pytest.raises(UserError, match=r"is not a run's hyper_param.json"):
        load_args(str(tmp_path / "bad.json"))


def test_closing_twice_is_harmless_and_json_is_one_line(logger):
    logger.log_hyperparameters({"a": 1})
    logger.close()
    logger.close()
    with open(os.path.join(logger.record_dir, "hyper_param.json")) as file:
        assert [json.loads(line) for line in file] == [{"a": 1}]
