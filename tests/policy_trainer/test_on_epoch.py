"""The hook per epoch hears every row once, whole; what it raises ends the run, state saved."""

import math

import pytest

from offlinerlkit_romi.errors import DivergedError, TrainingInterrupted
from offlinerlkit_romi.policy_trainer import MFPolicyTrainer
from tests.support.training import CountingBuffer, CountingPolicy, each_arrival, rows_of, spoilt_at
from tests.support.training import make_trainer as trainer_of

SCORE = "eval/normalized_episode_reward"


class Pruned(Exception):
    """A sweep's."""


class Hook:
    """Takes down what it is told, and raises at an epoch."""

    def __init__(self, error=None, at=0):
        self.error, self.at, self.heard = error, at, []

    def __call__(self, epoch, metrics):
        self.heard.append((epoch, metrics[SCORE], metrics["loss/actor"]))
        if epoch == self.at:
            raise self.error


def make_trainer(logger, arrives, hook, folder=None, policy=None):
    told = {"arrives": arrives, "folder": folder, "policy": policy}
    return trainer_of(logger, on_epoch=hook, **told)


def heard(*epochs):
    return [(epoch, 10.0 * (epoch - 1), 1.0) for epoch in epochs]


@each_arrival
def test_every_epoch_is_told_once_with_its_scores(arrives, logger):
    hook = Hook()
    make_trainer(logger, arrives, hook).train()
    assert hook.heard == heard(1, 2, 3, 4)


@each_arrival
@pytest.mark.parametrize("error", [Pruned("enough"), TrainingInterrupted("enough")])
def test_a_run_that_the_hook_stopped_goes_on_from_its_state(arrives, error, logger, tmp_path):
    with pytest.raises(type(error), match="enough"):
        make_trainer(logger, arrives, Hook(error, at=2), tmp_path / "states").train()
    assert len(rows_of(logger)) == 2
    hook = Hook()
    resumed = make_trainer(logger, arrives, hook, tmp_path / "states")
    assert 8 <= resumed.resume() <= 16
    resumed.scorer.started = [0] * resumed.state_dict()["epochs"]
    resumed.train()
    assert hook.heard == heard(3, 4)
    assert [float(row[SCORE]) for row in rows_of(logger)] == [0.0, 10.0, 20.0, 30.0]


@each_arrival
def test_without_checkpoints_the_rows_are_written_and_the_hook_is_not_called_again(arrives, logger):
    hook = Hook(Pruned("enough"), at=1)
    trainer = make_trainer(logger, arrives, hook)
    with pytest.raises(Pruned):
        trainer.train()
    assert hook.heard == heard(1)
    assert len(rows_of(logger)) == len(trainer.history) < 4
    assert trainer.scorer.closed


@each_arrival
def test_what_it_raises_at_the_last_epoch_comes_out_too(arrives, logger, tmp_path):
    with pytest.raises(Pruned):
        make_trainer(logger, arrives, Hook(Pruned(), at=4), tmp_path / "states").train()
    assert len(rows_of(logger)) == 4
    resumed = make_trainer(logger, arrives, Hook(Pruned(), at=1), tmp_path / "states")
    assert resumed.resume() == 16
    assert resumed.train() == {"last_10_performance": 15.0}


def test_a_divergence_is_told_though_the_hook_stops_at_a_row_before_it(logger):
    policy = CountingPolicy(meets=spoilt_at(5))
    hook = Hook(Pruned(), at=1)
    with pytest.raises(DivergedError):
        make_trainer(logger, lambda n: math.inf, hook, policy=policy).train()
    assert hook.heard == heard(1)


def test_a_measurement_of_an_epoch_is_in_its_row_and_knows_its_number(logger):
    policy = CountingPolicy()
    MFPolicyTrainer(
        policy,
        None,
        CountingBuffer("data"),
        logger,
        epoch=2,
        step_per_epoch=3,
        diagnose=lambda epoch, leave_if_asked: {"measured/epoch": 10.0 * epoch},
    ).train()
    assert [float(row["measured/epoch"]) for row in rows_of(logger)] == [10.0, 20.0]
