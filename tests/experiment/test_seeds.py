"""Seeds side by side are the runs they are alone."""

import math
import os
import shlex
import signal
import threading
import time
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
import torch

from offlinerlkit_romi import cli
from offlinerlkit_romi.engine import Generators, StateStore
from offlinerlkit_romi.errors import DivergedError, TrainingInterrupted, UserError
from offlinerlkit_romi.experiment.algorithms import ALGORITHMS
from offlinerlkit_romi.experiment.build import build_policy
from offlinerlkit_romi.experiment.command_line import take_seeds
from offlinerlkit_romi.experiment.folder import RunFolder
from offlinerlkit_romi.experiment.parts import prepare
from offlinerlkit_romi.experiment.resolve import settle
from offlinerlkit_romi.experiment.run import train
from offlinerlkit_romi.experiment.seeds import SeedsSummary
from offlinerlkit_romi.policy_trainer import Follower, Interrupts, PolicyTrainer
from offlinerlkit_romi.policy_trainer.progress import Progress
from offlinerlkit_romi.utils.logger import Logger
from tests.experiment.conftest import TINY_SETTINGS, make_dataset
from tests.support.comparing import differences, outcome
from tests.support.programs import flags
from tests.support.stopping import at_update, before, terminate

KEPT = {"checkpoint_share": 1.0, "keep_state": True, "dynamics_cache": "off"}


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def enough_cores(cores):
    """As many runs at a time as there are seeds, however small the machine."""
    cores(4)


def settings(algo, root, **values):
    known = {"dynamics_cache"} if "dynamics_max_epochs" not in TINY_SETTINGS[algo] else set()
    kept = {name: value for name, value in KEPT.items() if name not in known}
    return TINY_SETTINGS[algo] | kept | {"log_root": str(root)} | values


def words(algo, root, *more, **values):
    return ["train", algo, *more, *flags(settings(algo, root, **values))]


def folder_of(root, seed):
    (papers,) = root.glob(f"*/*/seed_{seed}&*/record/manifest.json")
    return papers.parents[1]


def assert_as_alone(algo, folder, seed, tmp_path, **values):
    torch.set_num_threads(1)
    alone = train(algo, **settings(algo, tmp_path / f"alone{seed}", seed=seed, **values))
    assert differences(outcome(alone.run_dir), outcome(folder)) == []


@pytest.mark.parametrize("algo", ["romi", "iql", "mcq"])
def test_side_by_side_each_seed_is_bit_for_bit_the_run_it_is_alone(algo, tiny_data, tmp_path):
    result = train(algo, seeds=[3, 1], **settings(algo, tmp_path / "both"))
    assert list(result.summaries) == [3, 1] and not result.failures
    assert len(tiny_data) == 1  # one data set
    for seed, summary in result.summaries.items():
        assert Path(summary.run_dir) == folder_of(tmp_path / "both", seed)
        assert_as_alone(algo, summary.run_dir, seed, tmp_path)


def test_runs_side_by_side_are_under_way_at_the_same_time(tiny_data, tmp_path):
    meeting = threading.Barrier(2, timeout=60)
    with at_update(0, lambda _: meeting.wait()):
        train("bc", seeds=[0, 1], **settings("bc", tmp_path))


def test_on_a_small_machine_seeds_take_turns(tiny_data, tmp_path, cores):
    cores(1)
    updates = []
    hear = before(PolicyTrainer, "_fire", lambda trainer, *_, **__: updates.append(trainer.logger))
    with hear:
        assert len(train("bc", seeds=[0, 1, 2], **settings("bc", tmp_path)).summaries) == 3
    assert len([*groupby(updates)]) == 3  # nobody's stand between another's


def test_nobody_writes_to_the_shared_data(tmp_path):
    dataset = make_dataset()
    before = {name: x.copy() for name, x in dataset.as_dict().items()}
    train("romi", seeds=[0, 1], **settings("romi", tmp_path), data=dataset)
    for name, x in dataset.as_dict().items():
        np.testing.assert_array_equal(x, before[name])


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_building_a_policy_draws_from_the_global_generator_under_the_lock_alone(algo):
    """Weights of one seed would otherwise hang on what another thread draws meanwhile."""
    config = settle(algo, TINY_SETTINGS[algo]).config
    cpu = torch.device("cpu")
    before = torch.get_rng_state()
    setting, _ = prepare(config, make_dataset(), cpu, Generators(0, cpu))
    build_policy(config, setting)
    assert torch.equal(before, torch.get_rng_state())


def test_initialisation_in_threads_is_that_of_one_thread():
    def weights(seed):
        with Generators(seed).initialisation("net"):
            return [torch.nn.Linear(50, 50).weight.detach() for _ in range(20)]

    expected = {seed: weights(seed) for seed in range(4)}
    found = {}
    threads = [
        threading.Thread(target=lambda s=seed: found.update({s: weights(s)})) for seed in expected
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(
        torch.equal(a, b)
        for seed in expected
        for a, b in zip(expected[seed], found[seed], strict=True)
    )


def test_one_that_diverges_does_not_stop_the_others(tiny_data, tmp_path, capsys):
    def poison(trainer):
        if "seed_1&" in trainer.logger.dir:
            trainer._updates.note({"loss/actor": torch.tensor(math.nan)}, 5)

    with at_update(5, poison):
        status = cli.main(words("iql", tmp_path / "both", "--seeds", "0", "1", "2"))
    assert status == 3
    shown = capsys.readouterr()
    (line,) = shown.err.splitlines()
    assert line.startswith("error: seed 1: training diverged: loss/actor not finite")
    table = shown.out[shown.out.index("iql on halfcheetah-random-v2, seeds 0 1 2") :]
    assert "diverged" in table and "of 2 seeds" in table
    assert_as_alone("iql", folder_of(tmp_path / "both", 2), 2, tmp_path)
    resumed = words("iql", tmp_path / "both", "--seeds", "0", "1", "2", "--resume", "auto")
    assert cli.main(resumed) == 3  # nothing is left to do
    assert len(list((tmp_path / "both").glob("*/*/seed_*"))) == 3
    assert "that run diverged and would do so again" in capsys.readouterr().err


def strike(update, act):
    """Act once, when both runs are in the midst of that update."""
    here, done = set(), threading.Event()

    def struck(trainer):
        if done.is_set():
            return
        here.add(trainer.logger.dir)
        if len(here) == 2:
            act(trainer._interrupts)
            done.set()
        done.wait(60)

    return at_update(update, struck)


@pytest.mark.parametrize("algo", ["romi", "iql"])
def test_a_signal_reaches_all_seeds_and_all_resume(algo, tiny_data, tmp_path, capsys):
    both = tmp_path / "both"
    with strike(5, terminate):
        assert cli.main(words(algo, both, "--seeds", "0", "1")) == 75
    said = capsys.readouterr()
    assert (said.out + said.err).count("go on with: ") == 1
    assert said.err.startswith("2 of 2 seeds interrupted; go on with: offlinerlkit-romi train ")
    again = shlex.split(said.err.partition("go on with: ")[2])[1:]
    assert again == [*words(algo, both, "--seeds", "0", "1"), "--resume", "auto"]
    for seed in (0, 1):
        steps = StateStore(folder_of(both, seed) / "checkpoint").steps()
        assert steps and steps[-1] > 4
        assert f"seed {seed} | interrupted after step {steps[-1]}, state saved" in said.out
    assert cli.main(again) == 0
    for seed in (0, 1):
        assert_as_alone(algo, folder_of(both, seed), seed, tmp_path)


def test_resuming_leaves_finished_seeds_as_they_are(tiny_data, tmp_path):
    root = tmp_path / "log"
    done = train("iql", seed=0, **settings("iql", root))
    stored = (Path(done.run_dir) / "result/summary.json").read_bytes()
    result = train("iql", seeds=[0, 1], resume="auto", **settings("iql", root))
    assert result.summaries[0] == RunFolder(done.run_dir).summary
    assert (Path(done.run_dir) / "result/summary.json").read_bytes() == stored
    assert len(list(root.glob("*/*/seed_*"))) == 2
    train("iql", seeds=[0, 1], resume="auto", **settings("iql", root))
    assert len(list(root.glob("*/*/seed_*"))) == 4  # all were done: done anew, as with one seed


def test_the_second_signal_ends_all_without_saving(tiny_data, tmp_path):
    def twice(follower):
        os.kill(os.getpid(), signal.SIGINT)
        while not follower._leader.requested:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)
        assert follower._abandoned.wait(60)

    with strike(5, twice), pytest.raises(KeyboardInterrupt) as caught:
        train("iql", seeds=[0, 1], **settings("iql", tmp_path))
    assert not isinstance(caught.value, TrainingInterrupted)
    for seed in (0, 1):
        assert StateStore(folder_of(tmp_path, seed) / "checkpoint").steps() == [0, 4]


def test_a_signal_ends_the_fit_of_a_model_between_two_epochs(tiny_data, tmp_path):
    calls = []

    def struck(follower):
        calls.append(1)
        if len(calls) == 3:  # each is asked once when it starts
            terminate()
            while not follower.requested:
                time.sleep(0.01)

    interrupted = pytest.raises(TrainingInterrupted, match="2 of 2 seeds")
    with before(Follower, "check", struck), interrupted:
        train("romi", seeds=[0, 1], **settings("romi", tmp_path, dynamics_max_epochs=50))


def test_a_bug_in_one_seed_is_raised_after_the_others_have_ended(tiny_data, tmp_path):
    def broken(trainer):
        if "seed_1&" in trainer.logger.dir:
            raise ZeroDivisionError

    with at_update(0, broken), pytest.raises(ZeroDivisionError):
        train("bc", seeds=[0, 1], **settings("bc", tmp_path))
    assert (folder_of(tmp_path, 0) / "result/summary.json").is_file()


def test_every_line_on_the_console_names_its_seed_and_no_line_in_the_files(
    tiny_data, tmp_path, capsys
):
    train("bc", seeds=[4, 7], **settings("bc", tmp_path))
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith(("seed 4 | ", "seed 7 | ")) for line in lines)
    text = (folder_of(tmp_path, 4) / "record/consoleout_backup.txt").read_text()
    assert "epoch 2/2" in text and "seed 4 | " not in text


def test_each_run_has_a_bar_of_its_own_with_its_name(tmp_path, terminal, capsys):
    terminal()
    bars = []
    for row, seed in enumerate((4, 7)):
        logger = Logger(str(tmp_path / str(seed)), {}, label=f"seed {seed} | ", row=row)
        bars.append(Progress(logger, 2, 5, "generated"))
    for bar in bars:
        bar.start_epoch(1)
        bar.advance(5)
    assert [-bar._bar.pos for bar in bars] == [0, -1] or [abs(b._bar.pos) for b in bars] == [0, 1]
    for bar in bars:
        bar.close()
    shown = capsys.readouterr().err
    assert "seed 4 | Epoch 1/2" in shown and "seed 7 | Epoch 1/2" in shown


def test_the_table_has_every_seed_their_mean_and_their_spread(tiny_data, tmp_path):
    made = train("bc", **settings("bc", tmp_path))
    values = vars(made) | {"score_last": 10.0}
    first = type(made)(**values)
    second = type(made)(**values | {"score_last": 14.0})
    summary = SeedsSummary("bc", {0: first, 2: second}, {1: DivergedError("x")})
    lines = [line.split() for line in summary.table().splitlines()]
    assert lines[1] == ["seed", "last", "last", "10", "best", "folder"]
    assert lines[2][:2] == ["0", "10.00"] and lines[4][:2] == ["2", "14.00"]
    assert lines[3] == ["1", "diverged"]
    fewer = SeedsSummary("bc", {0: first, 2: type(made)(**values | {"evaluations": 3})}, {})
    assert fewer.table().splitlines()[1].split()[2:4] == ["last", "3"]
    assert lines[5][:2] == ["mean", "12.00"] and lines[6][:2] == ["std", "2.83"]
    assert summary.only_diverged
    assert not SeedsSummary("bc", {}, {1: UserError("x")}).only_diverged
    assert "mean" not in SeedsSummary("bc", {}, {1: DivergedError("x")}).table()


@pytest.mark.parametrize(
    ("said", "seeds", "rest"),
    [
        (["--seeds", "0", "1", "--epoch", "3"], [0, 1], ["--epoch", "3"]),
        (["--epoch", "3", "--seeds", "5"], [5], ["--epoch", "3"]),
        (["--seeds=0,2", "--resume", "auto"], [0, 2], ["--resume", "auto"]),
        (["--epoch", "3"], None, ["--epoch", "3"]),
    ],
)
def test_seeds_are_taken_out_of_the_words(said, seeds, rest):
    assert take_seeds(said) == (seeds, rest)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (["--seeds"], "--seeds is"),
        (["--seeds", "one"], "give whole numbers"),
        (["--seeds", "-1"], "give whole numbers"),
        (["--seeds", "1", "1"], "each seed once"),
        (["--seeds", "1", "--seed", "2"], "leave one out"),
        (["--seeds", "1", "--resume", "log/x"], "write --resume auto"),
    ],
)
def test_seeds_that_make_no_sense_are_one_line(said, message, tmp_path, capsys):
    assert cli.main(["train", "bc", *said, "--log-root", str(tmp_path / "log")]) == 2
    shown = capsys.readouterr().err
    assert message in shown and shown.count("\n") == 1
    assert not (tmp_path / "log").exists()


def test_a_follower_hears_of_signals_and_leaves_handlers_alone():
    leader, abandoned = Interrupts(), threading.Event()
    follower = Follower(leader, abandoned)
    before = signal.getsignal(signal.SIGTERM)
    with follower, follower.deferred():
        assert signal.getsignal(signal.SIGTERM) is before
        assert not follower.requested
        leader.requested = True
        assert follower.requested
        with pytest.raises(TrainingInterrupted):
            follower.check()
        abandoned.set()
        with pytest.raises(KeyboardInterrupt):
            _ = follower.requested
