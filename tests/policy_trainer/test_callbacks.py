"""Callbacks hear of everything once, may end a run well, and never lose its state."""

import json
import math
from pathlib import Path

import pytest
import torch

from offlinerlkit_romi.errors import StopTraining, UserError
from offlinerlkit_romi.policy_trainer import (
    Callback,
    EarlyStopping,
    KeepBest,
    RunInfo,
)
from tests.support.training import CountingPolicy, each_arrival, make_trainer, rows_of


class Diary(Callback):
    """Takes down all it hears, and raises where it is told to."""

    every = 2

    def __init__(self, raises=None, **at):
        self.raises, self.at, self.heard = raises, at, []

    def note(self, hook, *told):
        self.heard.append((hook, *told))
        if self.at.get(hook, math.nan) in told:
            raise self.raises

    def on_start(self, run):
        self.note("start", run.steps_done)

    def on_update(self, step, policy):
        self.note("update", step)

    def on_evaluation(self, epoch, scores):
        self.note("evaluation", epoch, scores.mean)

    def on_epoch(self, epoch, metrics, policy):
        self.note("epoch", epoch)

    def on_end(self, status, summary):
        self.note("end", status, summary)

    def of(self, hook):
        return [told for name, *told in self.heard if name == hook]


def follow(trainer, logger):
    """Train as a run does, its callbacks told of start and end."""
    info = RunInfo(
        *(Path(logger.dir), "none", "none", 0, {"step_per_epoch": 4}),
        *(trainer.policy, trainer.steps_done, True, logger.log),
    )
    return trainer.callbacks.around(info, trainer.train)


@each_arrival
def test_all_is_told_once_and_in_order(arrives, logger):
    diary = Diary()
    done = follow(make_trainer(logger, [diary], arrives=arrives), logger)
    assert diary.heard[0] == ("start", 0) and diary.heard[-1] == ("end", "finished", done)
    assert diary.of("update") == [[step] for step in range(2, 17, 2)]
    assert diary.of("evaluation") == [[epoch, 10.0 * (epoch - 1)] for epoch in range(1, 5)]
    assert diary.of("epoch") == [[epoch] for epoch in range(1, 5)]


def test_an_epochs_updates_are_told_of_before_its_evaluation(logger):
    diary = Diary()
    make_trainer(logger, [diary]).train()
    assert diary.heard[:4] == [("update", 2), ("update", 4), ("evaluation", 1, 0.0), ("epoch", 1)]


@each_arrival
@pytest.mark.parametrize("at", [{"epoch": 2}, {"evaluation": 2}, {"update": 6}], ids=str)
def test_a_run_ended_well_ends_with_a_whole_evaluated_epoch(arrives, at, logger):
    diary, second = Diary(StopTraining("enough"), **at), Diary()
    trainer = make_trainer(logger, [diary, second], arrives=arrives, epoch=6)
    follow(trainer, logger)
    assert trainer.callbacks.stopped == "Diary: enough"
    assert 2 <= trainer.epochs_done <= 4 and trainer.steps_done == 4 * trainer.epochs_done
    rows = rows_of(logger)
    assert len(rows) == trainer.epochs_done == len(trainer.history)
    assert Path(logger.model_dir, "policy.pth").is_file()
    assert diary.of("end")[0][0] == "stopped" and second.of("epoch") == diary.of("epoch")


def test_a_run_whose_last_epoch_somebody_ends_is_finished(logger):
    diary = Diary(StopTraining("enough"), epoch=4)
    trainer = make_trainer(logger, [diary])
    follow(trainer, logger)
    assert trainer.callbacks.stopped == "" and diary.of("end")[0][0] == "finished"


def test_a_run_that_is_ended_at_an_epoch_without_evaluation_is_evaluated_once_more(logger):
    diary = Diary(StopTraining("enough"), epoch=1)
    trainer = make_trainer(logger, [diary], eval_freq=3)
    follow(trainer, logger)
    assert trainer.epochs_done == 2 and [step for step, _ in trainer.history] == [8]


@pytest.mark.parametrize("at", [{"epoch": 2}, {"evaluation": 2}, {"update": 6}], ids=str)
def test_what_a_callback_raises_ends_the_run_with_its_name_and_its_state(
    at, logger, tmp_path, capsys
):
    error = ZeroDivisionError("by nothing")
    diary, second = Diary(error, **at), Diary()
    with pytest.raises(ZeroDivisionError) as caught:
        follow(make_trainer(logger, [diary, second], folder=tmp_path / "states"), logger)
    assert caught.value is error
    (hook,) = at
    told = capsys.readouterr().out
    assert f"callback Diary raised in on_{hook}: ZeroDivisionError: by nothing; the run" in told
    assert "state saved" in told
    assert diary.of("end") == second.of("end") == [["failed", None]]
    resumed = make_trainer(logger, [again := Diary()], folder=tmp_path / "states")
    assert resumed.resume() in (6, 8)
    resumed.scorer.started = [0] * resumed.state_dict()["epochs"]
    follow(resumed, logger)
    assert [row["timestep"] for row in rows_of(logger)] == ["4", "8", "12", "16"]
    assert again.of("epoch") == ([[2], [3], [4]] if hook == "update" else [[3], [4]])


def test_what_is_raised_at_the_end_does_not_hide_why_the_run_failed(logger, capsys):
    class Tidy(Callback):
        def on_end(self, status, summary):
            raise OSError("nowhere to write")

    with pytest.raises(ZeroDivisionError):
        follow(make_trainer(logger, [Diary(ZeroDivisionError(), epoch=1), Tidy()]), logger)
    assert "callback Tidy raised in on_end: OSError: nowhere to write" in capsys.readouterr().out


def test_updates_that_are_never_due_are_refused(logger):
    never = Diary()
    never.every = 0
    with pytest.raises(UserError, match=r"Diary\.every is 0"):
        make_trainer(logger, [never]).train()


SCORE = "eval/normalized_episode_reward"


@pytest.mark.parametrize(
    "options, values, at",
    [
        ({}, [1, 3, 2, 3, 9], 4),
        ({"least": 1.0}, [1, 2, 1.5, 9], 3),
        ({"metric": "loss", "lowest": True}, [3, 1, 2, 2], 4),
        ({}, [1, None, 0, None, 0], 5),
        ({}, [math.nan, 1, math.nan, 0], 4),
        ({}, [1, 2, 3, 4], None),
    ],
    ids=str,
)
def test_early_stopping_stops_when_nothing_was_better_for_its_patience(options, values, at):
    stopping = EarlyStopping(2, **options)
    name = options.get("metric", SCORE)
    for epoch, value in enumerate(values, 1):
        row = {"other": 5.0} | ({} if value is None else {name: float(value)})
        if epoch == at:
            with pytest.raises(StopTraining, match="no better than"):
                stopping.on_epoch(epoch, row, None)
            return
        stopping.on_epoch(epoch, row, None)
    assert at is None


def test_early_stopping_goes_on_counting_when_resumed(logger):
    first, second = EarlyStopping(2), EarlyStopping(2)
    first.on_epoch(1, {SCORE: 5.0}, None)
    first.on_epoch(2, {SCORE: 4.0}, None)
    second.load_state_dict(first.state_dict())
    with pytest.raises(StopTraining):
        second.on_epoch(3, {SCORE: 5.0}, None)


@pytest.mark.parametrize("make", [lambda: EarlyStopping(1), KeepBest])
def test_who_watches_the_score_needs_evaluations(make, logger, tmp_path):
    run = RunInfo(tmp_path, "", "", 0, {"step_per_epoch": 4}, None, 0, False, print)
    with pytest.raises(UserError, match="watches the score, and nothing is evaluated"):
        make().on_start(run)


class Falling(CountingPolicy):
    """Its weight counts its updates."""

    def update(self, batch):
        with torch.no_grad():
            self.weight += 1
        return super().update(batch)


@each_arrival
@pytest.mark.parametrize("lowest, epoch", [(True, 1), (False, 4)])
def test_the_best_weights_are_those_that_were_evaluated(arrives, lowest, epoch, logger):
    keep = KeepBest(SCORE, lowest=lowest)
    follow(make_trainer(logger, [keep], arrives=arrives, policy=Falling()), logger)
    folder = Path(logger.checkpoint_dir)
    assert torch.load(folder / "best.pth")["weight"].item() == 4 * epoch
    assert json.loads((folder / "best.json").read_text()) == {
        **{"epoch": epoch, "step": 4 * epoch, "metric": SCORE, "value": 10.0 * (epoch - 1)}
    }


@each_arrival
def test_a_resumed_run_keeps_what_was_best_before(arrives, logger, tmp_path):
    def trainer(*callbacks):
        states = tmp_path / "states"
        return make_trainer(logger, callbacks, arrives=arrives, folder=states, policy=Falling())

    with pytest.raises(ZeroDivisionError):
        stop = Diary(ZeroDivisionError(), epoch=2)
        follow(trainer(KeepBest(SCORE, lowest=True), stop), logger)
    resumed = trainer(KeepBest(SCORE, lowest=True))
    resumed.resume()
    resumed.scorer.started = [0] * resumed.state_dict()["epochs"]
    follow(resumed, logger)
    assert len(rows_of(logger)) == 4
    assert torch.load(Path(logger.checkpoint_dir) / "best.pth")["weight"].item() == 4
