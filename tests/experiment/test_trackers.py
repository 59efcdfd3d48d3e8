"""A tracker hears what a run tells, and no run suffers from one; with modules of their names."""

import types

import pytest

from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.experiment.run import train
from tests.experiment.conftest import TINY_SETTINGS
from tests.support.comparing import differences, outcome
from tests.support.stopping import Killed, at_update, kill


class Told(list):
    """What a package was told, in order."""

    def function(self, name, result=None):
        def called(*args, **kwargs):
            self.append((name, args, kwargs))
            return result

        return called

    def of(self, name):
        return [(args, kwargs) for called, args, kwargs in self if called == name]


def as_wandb(told):
    run = types.SimpleNamespace(log=told.function("log"), finish=told.function("end"))
    return {"init": told.function("init", run)}


def as_mlflow(told):
    made = types.SimpleNamespace(info=types.SimpleNamespace(run_id="r1"))
    client = types.SimpleNamespace(
        get_experiment_by_name=told.function("find"),
        create_experiment=told.function("experiment", "e1"),
        create_run=told.function("init", made),
        search_runs=lambda *_: [made] if told.of("init") else [],
        log_batch=told.function("log"),
        set_terminated=told.function("end"),
    )
    entities = types.SimpleNamespace(Param=lambda *x: x, Metric=lambda *x: x)
    return {"MlflowClient": lambda: client, "entities": entities}


@pytest.fixture
def told(request, installed, tiny_data):
    """A package of the tracker's name, and what it was told."""
    found = Told()
    package = types.ModuleType(request.param)
    make = as_mlflow if request.param == "mlflow" else as_wandb
    vars(package).update(make(found))
    installed(**{request.param: package})
    found.name, found.package = request.param, package
    return found


def run(tmp_path, tracker, **values):
    settings = TINY_SETTINGS["td3bc"] | {"log_root": str(tmp_path / "log")}
    return train("td3bc", **settings | {"tracker": tracker} | values)


@pytest.mark.parametrize("told", ["wandb", "trackio"], indirect=True)
def test_wandb_and_trackio_hear_settings_rows_and_the_end(told, tmp_path):
    done = run(tmp_path, told.name, seed=3)
    ((_, begun),) = told.of("init")
    assert begun["project"] == "offlinerlkit-romi" and begun["resume"] == "allow"
    assert begun["config"]["seed"] == 3 and begun["config"]["algo"] == "td3bc"
    assert begun["name"].startswith("td3bc halfcheetah-random-v2 seed 3")
    if told.name == "wandb":
        assert (begun["reinit"], begun["dir"]) == ("create_new", done.run_dir)
    rows = told.of("log")
    assert [kwargs["step"] for _, kwargs in rows] == [4, 8]
    assert all("loss/actor" in args[0] for args, _ in rows)
    assert len(told.of("end")) == 1 and told[-1][0] == "end"


@pytest.mark.parametrize("told", ["mlflow"], indirect=True)
def test_mlflow_hears_settings_rows_and_the_end(told, tmp_path):
    run(tmp_path, "mlflow", seed=3)
    (((place,), begun),) = told.of("init")
    assert (place, begun["run_name"]) == ("e1", "td3bc halfcheetah-random-v2 seed 3")
    (_, settings), *rows = told.of("log")
    assert ("seed", "3") in settings["params"] and ("algo", "td3bc") in settings["params"]
    steps = [{step for *_, step in kwargs["metrics"]} for _, kwargs in rows]
    assert steps == [{4}, {8}] and told[-1][:2] == ("end", ("r1", "FINISHED"))


@pytest.mark.parametrize("told", ["wandb", "mlflow", "trackio"], indirect=True)
def test_a_run_that_goes_on_goes_on_in_the_tracker_too(told, tmp_path):
    with pytest.raises(Killed), at_update(5, kill):
        run(tmp_path, told.name)
    run(tmp_path, told.name, resume="auto")
    begun = told.of("init")
    if told.name == "mlflow":
        assert len(begun) == 1
    else:
        name = "id" if told.name == "wandb" else "name"
        assert len(begun) == 2 and begun[0][1][name] == begun[1][1][name]


@pytest.mark.parametrize("told", ["wandb"], indirect=True)
def test_a_tracker_that_fails_is_told_once_and_changes_nothing(told, tmp_path, capsys):
    def refuse(*_, **__):
        raise ConnectionError("no network")

    told.package.init = refuse
    done = run(tmp_path, "wandb")
    line = "tracker wandb fails (ConnectionError: no network): training goes on without it"
    assert capsys.readouterr().out.count(line) == 1
    without = run(tmp_path / "without", "none")
    assert not differences(outcome(done.run_dir), outcome(without.run_dir))


def test_a_tracker_that_is_not_there_is_told_before_a_run_begins(tmp_path, installed, tiny_data):
    installed(trackio=None)
    with pytest.raises(UserError, match=r"--tracker trackio cannot be imported .*\[trackio\]"):
        run(tmp_path, "trackio")
    assert not (tmp_path / "log").exists()
