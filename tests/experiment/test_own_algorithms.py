"""An algorithm of one's own works by its name wherever the package's do."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from offlinerlkit_romi import cli, load_policy, register_algorithm, train
from offlinerlkit_romi.algorithms import BCConfig, RunConfig
from offlinerlkit_romi.envs import get_task
from offlinerlkit_romi.errors import TrainingInterrupted, UserError
from offlinerlkit_romi.experiment.algorithms import ALGORITHMS
from offlinerlkit_romi.experiment.algorithms.registry import Registry
from offlinerlkit_romi.experiment.compare.plan import make_jobs
from offlinerlkit_romi.experiment.evaluation import evaluates_in_worker
from offlinerlkit_romi.experiment.folder import RunFolder
from offlinerlkit_romi.experiment.resolve import resolve, settle
from tests.experiment.conftest import TASK, TINY_SETTINGS
from tests.experiment.own_algorithm import OwnConfig, ScaledPolicy
from tests.support.programs import flags
from tests.support.stopping import at_update, terminate

PATH = "tests.experiment.own_algorithm:OwnConfig"
ROOT = Path(__file__).parents[2]
TINY = TINY_SETTINGS["bc"]


@pytest.fixture
def clean():
    """Nothing stays registered."""
    yield
    for name in set(ALGORITHMS) - ALGORITHMS.own:
        del ALGORITHMS[name]


@pytest.fixture
def own(clean):
    register_algorithm("own", OwnConfig)


def local_kind():
    @dataclass(frozen=True)
    class Local(OwnConfig):
        presets_file = ""

    return Local


def test_a_registered_algorithm_trains_resumes_and_comes_back(own, tiny_data, tmp_path):
    values = TINY | {"log_root": str(tmp_path), "factor": 0.5}
    with at_update(5, terminate), pytest.raises(TrainingInterrupted) as stop:
        train("own", **values)
    assert f"train own={PATH} --resume" in str(stop.value)
    (folder,) = tmp_path.glob(f"{TASK}/own&data=generated/seed_*")
    summary = train("own", resume=str(folder))
    assert (summary.algo, summary.steps) == ("own", 8)
    policy = load_policy(folder)
    assert isinstance(policy, ScaledPolicy) and policy.factor == 0.5
    assert policy.select_action(np.zeros((2, 17)), deterministic=True).shape == (2, 6)
    assert RunFolder(folder).resolved.config.actor_lr == 2e-4


def test_another_process_finds_it_by_what_the_run_recorded(own, tiny_data, tmp_path):
    folder = train("own", **TINY, log_root=str(tmp_path)).run_dir
    program = f"from offlinerlkit_romi import load_policy; print(type(load_policy({folder!r})))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert "own_algorithm.ScaledPolicy" in done.stdout, done.stderr


def test_a_run_of_an_algorithm_that_nobody_can_import_says_so(clean, tiny_data, tmp_path):
    register_algorithm("local", local_kind())
    folder = train("local", **TINY, log_root=str(tmp_path)).run_dir
    load_policy(folder)
    del ALGORITHMS["local"]
    with pytest.raises(UserError, match="a run of 'local', which nobody has registered here"):
        load_policy(folder)


def test_the_command_line_takes_it_with_its_class(clean, tiny_data, tmp_path, capsys):
    words = flags(TINY | {"log_root": tmp_path, "factor": 0.25})
    assert cli.main(["train", f"own={PATH}", *words]) == 0
    (folder,) = tmp_path.glob(f"{TASK}/own*/seed_*")
    assert RunFolder(folder).resolved.config.factor == 0.25
    assert cli.main(["train", "own", "--resume", str(folder), "--epoch", "3"]) == 2
    assert "did not keep its state" in capsys.readouterr().err


def test_its_settings_are_shown_with_their_sources(clean, capsys):
    assert cli.main(["config", "show", f"own={PATH}", "--preset", "half"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "factor 0.5 preset half: ours" in shown


def test_its_help_tells_its_settings_and_presets(own, capsys):
    assert cli.main(["train", "own", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "What the data's actions are multiplied by. (default: 1.0)" in shown
    assert "half: half of every action" in shown and "Cloning of scaled actions." in shown
    assert cli.main(["train", "--help"]) == 0
    assert "presets: half" in capsys.readouterr().out


def test_presets_and_defaults_lie_beside_its_module(own):
    resolved = resolve("own", preset="half")
    assert (resolved.config.factor, resolved.config.actor_lr) == (0.5, 2e-4)
    assert resolved.sources["factor"] == "preset half: ours"


def test_one_without_a_preset_file_has_its_fields_defaults(clean):
    register_algorithm("bare", local_kind())
    assert settle("bare", {}).config.actor_lr == 1e-4


def test_a_preset_file_that_is_not_there_is_named(clean):
    @dataclass(frozen=True)
    class Missing(OwnConfig):
        presets_file = "nowhere.yaml"

    register_algorithm("missing", Missing)
    with pytest.raises(UserError, match=r"Missing.presets_file is nowhere.yaml: put it beside"):
        settle("missing", {})


def test_a_compared_run_is_made_by_a_process_that_knows_it(own, tmp_path):
    (job,) = make_jobs(["own"], [0], ["--epoch", "1"], {})
    argv = job.command(None, tmp_path / "log").argv
    assert argv[3:5] == ["train", f"own={PATH}"]


def test_only_what_can_be_imported_is_evaluated_in_another_process():
    kinds, cpu = (BCConfig, OwnConfig, local_kind()), torch.device("cpu")
    found = [evaluates_in_worker(kind(eval_async=True), get_task(TASK), cpu) for kind in kinds]
    assert found == [True, True, False]


class NoDataclass(OwnConfig):
    pass


@dataclass(frozen=True)
class Unbuilt(RunConfig):
    pass


@pytest.mark.parametrize(
    "name, config, message",
    [
        ("romi", OwnConfig, "'romi' is the package's: take another"),
        ("a b", OwnConfig, "'a b' is no name"),
        ("own", 3, "'own' is 3: register a dataclass"),
        ("own", NoDataclass, r"NoDataclass has no @dataclass\(frozen=True\) of its own"),
        ("own", Unbuilt, r"Unbuilt does not say how it is built: give it build\(parts\)"),
    ],
)
def test_what_is_no_algorithm_is_refused(name, config, message, clean):
    with pytest.raises(UserError, match=message):
        register_algorithm(name, config)


@pytest.mark.parametrize(
    "word, message",
    [("own=nowhere:Config", "cannot be imported"), ("unheard", "unknown algorithm 'unheard'")],
)
def test_a_command_with_an_algorithm_that_cannot_be_found_is_refused(word, message, clean, capsys):
    assert cli.main(["train", word]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


@pytest.fixture
def announce(tmp_path, import_from):
    """Leaves a package's metadata as an installer does, where they are found."""

    def install(**entries):
        place = tmp_path / "their-1.0.dist-info"
        place.mkdir()
        (place / "METADATA").write_text("Metadata-Version: 2.1\nName: their\nVersion: 1.0\n")
        lines = [f"{name} = {value}" for name, value in entries.items()]
        text = "\n".join(["[offlinerlkit_romi.algorithms]", *lines])
        (place / "entry_points.txt").write_text(text + "\n")
        import_from([tmp_path])

    yield install
    vars(ALGORITHMS).pop("_announced", None)  # it is looked up anew


def test_an_installed_packages_algorithm_is_imported_when_asked_for(tmp_path, announce):
    announce(theirs="their_module:Theirs", romi="their_module:Romi")
    source = (ROOT / "tests/experiment/own_algorithm.py").read_text()
    (tmp_path / "their_module.py").write_text(source.replace("OwnConfig", "Theirs"))
    registry = Registry({"romi": BCConfig})
    assert list(registry) == ["romi", "theirs"] and "theirs" in registry
    assert "their_module" not in sys.modules
    assert registry["theirs"]().factor == 1.0 and registry["romi"] is BCConfig
    assert registry.spelled("theirs") == "theirs"


def test_a_broken_package_is_told_in_one_line_and_spoils_no_list(announce, capsys):
    announce(theirs="their_broken_module:Theirs")
    vars(ALGORITHMS).pop("_announced", None)
    assert cli.main(["train", "theirs"]) == 2
    error = capsys.readouterr().err
    assert "algorithm 'theirs' of their_broken_module:Theirs cannot be imported" in error
    assert error.count("\n") == 1
    assert cli.main(["train", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "mend or uninstall its package" in shown and "presets: " in shown
