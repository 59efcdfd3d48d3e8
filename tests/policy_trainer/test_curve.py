"""Scores that come late land on their own row; rows keep their order, and none is lost."""

import math
import signal

import pytest

from offlinerlkit_romi.engine import StateStore, capture
from offlinerlkit_romi.errors import DivergedError, TrainingInterrupted
from offlinerlkit_romi.policy_trainer import Checkpoints, Interrupts, MFPolicyTrainer
from tests.support.stopping import before
from tests.support.training import (
    ARRIVALS,
    CountingBuffer,
    CountingPolicy,
    LateScorer,
    rows_of,
    spoilt_at,
)


def make_trainer(logger, arrives, policy=None, epoch=4, **options):
    policy = policy or CountingPolicy()
    scorer = LateScorer(policy, arrives)
    trainer = MFPolicyTrainer(
        policy, scorer, CountingBuffer("data"), logger, epoch, 4, 1, close_logger=False, **options
    )
    return trainer, scorer


def scores_of(logger):
    score = "eval/normalized_episode_reward"
    return [(int(row["timestep"]), float(row[score] or "nan")) for row in rows_of(logger)]


ON_TIME = [(4, 0.0), (8, 10.0), (12, 20.0), (16, 30.0)]


ANY_ORDER = ARRIVALS | {"the first one last": lambda n: (99, 0, 0, 0)[n]}


@pytest.mark.parametrize("arrives", ANY_ORDER.values(), ids=ANY_ORDER)
def test_every_score_lands_on_its_own_row_and_rows_keep_their_order(arrives, logger):
    trainer, scorer = make_trainer(logger, arrives)
    trainer.train()
    assert scores_of(logger) == ON_TIME
    assert [(step, scores.mean) for step, scores in trainer.history] == ON_TIME
    assert scorer.started == [4, 8, 12, 16] and scorer.closed


def test_a_row_is_written_as_soon_as_its_score_is_there(logger):
    seen = []
    policy = CountingPolicy(meets=lambda _: seen.append(len(trainer.history)))
    trainer, _ = make_trainer(logger, lambda n: 4 * n + 6, policy, epoch=2)
    trainer.train()
    assert seen == [0, 0, 0, 0, 0, 0, 1, 1]


def test_epochs_without_an_evaluation_wait_for_the_row_before_them(logger):
    trainer, _ = make_trainer(logger, lambda n: math.inf, epoch=5, eval_freq=2)
    trainer.train()
    written = scores_of(logger)
    assert [step for step, _ in written] == [4, 8, 12, 16, 20]
    assert [(s, x) for s, x in written if not math.isnan(x)] == [(8, 0.0), (16, 10.0), (20, 20.0)]


def test_evaluations_do_not_pile_up(logger):
    trainer, scorer = make_trainer(logger, lambda n: math.inf, epoch=6)
    under_way = []
    start = scorer.start

    def counting(policy):
        under_way.append(len(scorer.started) - len(trainer.history))
        return start(policy)

    scorer.start = counting
    trainer.train()
    assert max(under_way) == 2


def test_the_time_of_the_worker_is_reported_beside_that_of_waiting(logger):
    trainer, _ = make_trainer(logger, lambda n: 0)
    trainer.train()
    assert {float(row["time/ms_per_evaluation_worker"]) for row in rows_of(logger)} == {250.0}
    totals = trainer.timer.totals()
    assert totals["evaluation_worker"] == 250.0 and totals["evaluation"] < 250.0


def checkpoints_in(folder, logger):
    folder.mkdir(exist_ok=True)
    store = StateStore(folder)
    return Checkpoints(store, {"logger": logger}, print, share=1.0)


def test_a_signal_saves_the_rows_that_wait_and_a_resumed_run_writes_them(logger, tmp_path):
    interrupts = Interrupts()

    def strike(policy):
        interrupts.requested = policy.calls["update"] == 9

    policy = CountingPolicy(meets=strike)
    saved = checkpoints_in(tmp_path / "states", logger)
    trainer, _ = make_trainer(
        logger, lambda n: math.inf, policy, checkpoints=saved, interrupts=interrupts
    )
    with pytest.raises(TrainingInterrupted, match="after step 10, state saved"):
        trainer.train()
    assert rows_of(logger) == []

    policy = CountingPolicy()
    resumed, scorer = make_trainer(
        logger, lambda n: math.inf, policy, checkpoints=checkpoints_in(tmp_path / "states", logger)
    )
    assert resumed.resume() == 10
    assert scorer.repeated == [0, 1]
    scorer.started = [4, 8]
    resumed.train()
    assert scores_of(logger) == ON_TIME
    assert [(step, scores.mean) for step, scores in resumed.history] == ON_TIME


def test_a_signal_while_waiting_for_the_last_scores_saves_them_too(logger, tmp_path):
    interrupts = Interrupts()
    trainer, scorer = make_trainer(
        logger,
        lambda n: math.inf,
        epoch=1,
        checkpoints=checkpoints_in(tmp_path / "states", logger),
        interrupts=interrupts,
    )
    strike = before(scorer, "start", lambda _: setattr(interrupts, "requested", True))
    with strike, pytest.raises(TrainingInterrupted, match="after step 4, state saved"):
        trainer.train()
    assert capture({"trainer": trainer})["trainer"]["waiting"][0]["evaluation"]["number"] == 0
    assert scorer.closed


def test_without_checkpoints_a_signal_waits_for_the_scores(logger):
    interrupts = Interrupts()
    trainer, scorer = make_trainer(logger, lambda n: math.inf, epoch=1, interrupts=interrupts)
    strike = before(scorer, "start", lambda _: setattr(interrupts, "requested", True))
    with strike, pytest.raises(TrainingInterrupted):
        trainer.train()
    assert scores_of(logger) == [(4, 0.0)]


def test_a_diverged_epoch_is_not_evaluated_and_the_rows_before_it_are_written(logger):
    policy = CountingPolicy(meets=spoilt_at(9))
    trainer, scorer = make_trainer(logger, lambda n: math.inf, policy)
    with pytest.raises(DivergedError):
        trainer.train()
    assert scorer.started == [4, 8] and scores_of(logger) == ON_TIME[:2]
    assert scorer.closed


def test_the_second_signal_does_not_wait_for_scores(logger):
    trainer, scorer = make_trainer(logger, lambda n: math.inf)

    def struck(policy):
        for _ in range(2):
            signal.raise_signal(signal.SIGINT)

    scorer.start = struck
    with Interrupts() as interrupts, pytest.raises(KeyboardInterrupt) as caught:
        trainer._interrupts = interrupts
        trainer.train()
    assert not isinstance(caught.value, TrainingInterrupted)
    assert scorer.waits == 0 and scorer.closed
