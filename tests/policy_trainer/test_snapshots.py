"""The worker process: asked, killed, hung, refused; the answer is always the same."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.policy_trainer import Scores, SnapshotScorer
from offlinerlkit_romi.policy_trainer.snapshots import acting_weights
from tests.support.processes import assert_gone

pytestmark = [
    pytest.mark.slow,  # a child imports torch
    pytest.mark.skipif(os.name != "posix", reason="signals"),
]


@dataclass(frozen=True)
class Recipe:
    """Scores are sums of weights; a worker process may misbehave first."""

    folder: str
    trick: str = ""
    times: int = 0
    home: int = 0

    def judge(self):
        return self._judge

    def _judge(self, number, weights):
        if os.getpid() != self.home and len(list(Path(self.folder).iterdir())) < self.times:
            (Path(self.folder) / str(time.monotonic_ns())).touch()
            if self.trick == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.trick == "stopped":
                os.kill(os.getpid(), signal.SIGSTOP)
        if self.trick == "fails" and os.getpid() != self.home:
            raise OSError("there is no such driver")
        if self.trick == "complains":
            raise UserError("the policy's action is NaN")
        if self.trick == "chatty":
            os.write(1, b"a simulator's banner")
        total = float(sum(np.sum(x) for x in weights.values()))
        return Scores(total + number, float(torch.get_num_threads()), 0.0, 0.0)


class Policy(nn.Module):
    acts_with = ("actor",)

    def __init__(self, value):
        super().__init__()
        self.actor, self.actor_old = nn.Linear(1, 1), nn.Linear(1, 1)
        nn.init.constant_(self.actor.weight, value)
        nn.init.zeros_(self.actor.bias)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "tricks").mkdir()
    return str(tmp_path / "tricks")


def scored(recipe, values=(1.0, 2.0, 3.0), seconds_at_most=120.0):
    """Ask for one evaluation per value at once; returns the scores and what was told."""
    told = []
    scorer = SnapshotScorer(recipe, told.append, in_worker=True, seconds_at_most=seconds_at_most)
    scorer.open()
    try:
        evaluations = [scorer.start(Policy(value)) for value in values]
        return [evaluation.outcome() for evaluation in evaluations], told
    finally:
        scorer.close()


EXPECTED = [1.0, 3.0, 5.0]  # value + number


def test_a_snapshot_is_what_the_policy_was_when_asked(folder):
    told = []
    scorer = SnapshotScorer(Recipe(folder, "chatty"), told.append, in_worker=True)
    scorer.open()
    policy = Policy(1.0)
    first = scorer.start(policy)
    nn.init.constant_(policy.actor.weight, 7.0)
    second = scorer.start(policy)
    try:
        (one, seconds), (two, _) = first.outcome(), second.outcome()
    finally:
        scorer.close()
    assert (one.mean, two.mean) == (1.0, 8.0) and one.std == 1.0  # on one thread
    assert seconds >= 0 and told == [] and scorer.evaluator.state_dict() == {"calls": 2}


def test_a_killed_worker_is_replaced_and_nothing_is_lost(folder):
    outcomes, told = scored(Recipe(folder, "killed", times=1))
    assert [scores.mean for scores, _ in outcomes] == EXPECTED
    assert told == ["the evaluation worker was lost (signal 9): starting another"]


def test_when_the_second_worker_is_killed_too_the_training_process_evaluates(folder):
    outcomes, told = scored(Recipe(folder, "killed", times=9, home=os.getpid()))
    assert [scores.mean for scores, _ in outcomes] == EXPECTED
    assert all(seconds is None for _, seconds in outcomes)
    assert [line.rpartition(": ")[2] for line in told] == [
        "starting another",
        "the training process evaluates from now on",
    ]


def test_a_worker_that_does_not_answer_in_time_is_given_up(folder):
    recipe = Recipe(folder, "stopped", times=9, home=os.getpid())
    outcomes, told = scored(recipe, seconds_at_most=1.0)
    assert [scores.mean for scores, _ in outcomes] == EXPECTED
    assert told[0] == "the evaluation worker was lost (no answer in time): starting another"
    assert len(told) == 2


def test_what_is_wrong_with_the_policy_is_told_as_without_a_worker(folder):
    with pytest.raises(UserError, match="the policy's action is NaN"):
        scored(Recipe(folder, "complains"), (1.0,))


def test_what_fails_in_the_worker_alone_is_evaluated_by_the_training_process(folder):
    outcomes, told = scored(Recipe(folder, "fails", home=os.getpid()), (1.0,))
    assert [(scores.mean, seconds) for scores, seconds in outcomes] == [(1.0, None)]
    assert told == []


def test_closing_does_not_wait_for_the_evaluation(folder):
    scorer = SnapshotScorer(Recipe(folder, "stopped", times=9), print, in_worker=True)
    scorer.open()
    scorer.start(Policy(1.0))
    while not list(Path(folder).iterdir()):
        time.sleep(0.05)
    pid = scorer._worker.pid
    scorer.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_worker_ends_with_its_parent_however_that_ends(tmp_path):
    """Its parent dies of SIGKILL while the worker is in the midst of an evaluation."""
    program = (
        "import os, signal, sys, time, pathlib\n"
        "from offlinerlkit_romi.policy_trainer import SnapshotScorer\n"
        "from tests.policy_trainer.test_snapshots import Policy, Slow\n"
        "scorer = SnapshotScorer(Slow(sys.argv[1]), print, in_worker=True)\n"
        "scorer.open(); scorer.start(Policy(1.0))\n"
        "while not pathlib.Path(sys.argv[1]).exists(): time.sleep(0.05)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    mark = tmp_path / "pid"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", program, str(mark)], cwd=root, check=False)
    assert done.returncode == -signal.SIGKILL
    assert_gone(int(mark.read_text()))


@dataclass(frozen=True)
class Slow:
    mark: str

    def judge(self):
        return self._judge

    def _judge(self, number, weights):
        partial = Path(self.mark + ".partial")
        partial.write_text(str(os.getpid()))
        partial.rename(self.mark)
        time.sleep(3600)


def test_only_what_acts_is_copied():
    policy = Policy(2.0)
    copies = acting_weights(policy)
    assert sorted(copies) == ["actor.bias", "actor.weight"]
    nn.init.constant_(policy.actor.weight, 5.0)
    assert float(copies["actor.weight"]) == 2.0
