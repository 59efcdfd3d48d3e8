import math
from pathlib import Path

import pytest
import torch

from offlinerlkit_romi.engine import save_atomically
from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.policy_trainer import Event, MBPolicyTrainer, MFPolicyTrainer
from offlinerlkit_romi.policy_trainer.progress import Stage
from offlinerlkit_romi.utils.logger import Logger
from tests.support.training import CountingBuffer, CountingPolicy, KitStyleEnv, rows_of, spoilt_at


def mb_trainer(logger, policy=None, env=None, **options):
    settings = {
        "rollout_setting": (2, 7, 3),
        "epoch": 2,
        "step_per_epoch": 4,
        "batch_size": 10,
        "real_ratio": 0.25,
        "eval_episodes": 2,
        "dynamics_update_freq": 4,
    } | options
    real, fake = CountingBuffer("real"), CountingBuffer("fake")
    return MBPolicyTrainer(policy or CountingPolicy(), env, real, fake, logger, **settings)


def test_rollouts_come_before_and_model_updates_after_their_policy_step(logger):
    policy = CountingPolicy()
    mb_trainer(logger, policy, epoch=1, dynamics_update_freq=3).train()
    assert policy.log == [
        *("rollout", "update", "update"),
        *("rollout", "update", "update_dynamics", "update"),
    ]


@pytest.mark.parametrize(
    ("event", "due"),
    [
        (Event("a", 250, dict, before_update=True), [0, 250, 500, 750, 1000]),
        (Event("a", 400, dict), [399, 799]),
        (Event("a", 0, dict), []),
    ],
)
def test_an_event_is_due_at_the_kits_steps(event, due):
    assert [step for step in range(1001) if event.due(step)] == due


def test_a_batch_holds_the_asked_share_of_real_rows_rounded_down(logger):
    policy = CountingPolicy()
    mb_trainer(logger, policy).train()
    batch = policy.batches[0]
    assert (batch["real"]["from"], batch["real"]["rows"]) == ("real", 2)
    assert (batch["fake"]["from"], batch["fake"]["rows"]) == ("fake", 8)


def test_rollout_transitions_reach_the_model_buffer(logger):
    trainer = mb_trainer(logger)
    trainer.train()
    assert trainer.fake_buffer.added == 4 * 7


def test_model_updates_draw_from_the_data_unless_told_otherwise(logger, tmp_path):
    trainer = mb_trainer(logger)
    trainer.train()
    assert trainer.policy.model_buffer is trainer.real_buffer
    clean = CountingBuffer("clean rows")
    other = mb_trainer(Logger(str(tmp_path / "other"), {}), model_buffer=clean)
    other.train()
    assert other.policy.model_buffer is clean


def test_the_curve_has_the_kits_columns_and_the_times(logger):
    mb_trainer(logger, env=KitStyleEnv()).train()
    rows = rows_of(logger)
    assert [row["timestep"] for row in rows] == ["4", "8"]
    assert set(rows[0]) == {
        "timestep",
        "loss/actor",
        "q/real",
        "romi/outer_loss",
        "rollout_info/num_transitions",
        "rollout_info/reward_mean",
        "eval/normalized_episode_reward",
        "eval/normalized_episode_reward_std",
        "eval/episode_length",
        "eval/episode_length_std",
        "time/ms_per_policy_step",
        "time/ms_per_model_update",
        "time/ms_per_rollout",
        "time/ms_per_evaluation",
    }
    assert float(rows[0]["loss/actor"]) == 1.0 and float(rows[0]["romi/outer_loss"]) == 2.0
    assert rows_of(logger, "dynamics_training_progress") == []


def test_scores_are_the_kits_and_their_spread_is_free_of_its_shift(logger):
    mb_trainer(logger, env=KitStyleEnv(), eval_episodes=2).train()
    row = rows_of(logger)[0]
    # returns 3 and 6: scores 8 and 11; the kit would log std 1.5 + 5 = 6.5
    assert float(row["eval/normalized_episode_reward"]) == pytest.approx(9.5)
    assert float(row["eval/normalized_episode_reward_std"]) == pytest.approx(1.5)
    assert float(row["eval/episode_length"]) == 3


def test_train_returns_the_mean_of_the_last_ten_scores(logger):
    trainer = mb_trainer(logger, env=KitStyleEnv(), epoch=12, eval_episodes=1)
    returned = trainer.train()["last_10_performance"]
    scores = [scores.mean for _, scores in trainer.history]
    assert len(scores) == 12 and returned == pytest.approx(sum(scores[-10:]) / 10)


def test_evaluation_can_be_rarer_than_epochs_but_the_last_epoch_always_has_one(logger):
    trainer = mb_trainer(logger, env=KitStyleEnv(), epoch=5, eval_freq=2)
    trainer.train()
    assert [steps for steps, _ in trainer.history] == [8, 16, 20]


@pytest.mark.parametrize("options", [{"env": None}, {"env": KitStyleEnv(), "eval_episodes": 0}])
def test_without_evaluation_training_runs_and_returns_nan(logger, options):
    result = mb_trainer(logger, **options).train()
    assert math.isnan(result["last_10_performance"])
    assert "eval/normalized_episode_reward" not in rows_of(logger)[0]


def test_the_policy_learns_in_training_mode_after_every_evaluation(logger):
    policy = CountingPolicy()
    mb_trainer(logger, policy, env=KitStyleEnv()).train()
    assert all(policy.modes)


def test_an_environment_without_a_score_scale_is_refused(logger):
    class Bare:
        def reset(self):
            return None

    with pytest.raises(UserError, match="cannot score on Bare: pass a task's name"):
        mb_trainer(logger, env=Bare())


def test_policy_and_model_are_saved_where_the_kit_saves_them(logger):
    mb_trainer(logger).train()
    assert (Path(logger.model_dir) / "dynamics.pth").read_text() == "model"
    for folder in (logger.checkpoint_dir, logger.model_dir):
        state = torch.load(Path(folder) / "policy.pth", weights_only=True)
        assert list(state) == ["weight"]
    left = [path.name for path in Path(logger.dir).rglob("*partial*")]
    assert left == []


def test_an_interrupted_save_keeps_the_old_file(tmp_path):
    path = tmp_path / "policy.pth"
    save_atomically({"a": torch.ones(1)}, path)
    with pytest.raises((AttributeError, TypeError)):
        save_atomically({"a": lambda: None}, path)  # cannot be pickled
    assert torch.load(path, weights_only=True)["a"] == 1


def test_a_diverged_run_stops_and_keeps_the_last_sound_checkpoint(logger):
    trainer = mb_trainer(logger, CountingPolicy(meets=spoilt_at(5)), epoch=3)
    with pytest.raises(UserError, match="loss/actor not finite since step 6"):
        trainer.train()
    state = torch.load(Path(logger.checkpoint_dir) / "policy.pth", weights_only=True)
    assert state["weight"].isfinite().all()


def test_a_run_that_is_no_terminal_prints_one_line_per_epoch_with_the_data_source(logger, capsys):
    mb_trainer(logger, env=KitStyleEnv(), data_source="generated").train()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("epoch 2/2  step 8  score 9.5±1.5  Q(real) 4")
    assert "data generated" in lines[1] and "left" in lines[1]


def test_a_terminal_gets_a_bar_with_score_and_source_and_the_file_gets_the_lines(
    logger, capsys, terminal
):
    terminal()
    mb_trainer(logger, env=KitStyleEnv(), data_source="generated").train()
    shown = capsys.readouterr()
    assert "epoch 2/2" not in shown.out
    assert "Epoch 2/2" in shown.err and "score=9.5±1.5" in shown.err
    assert "data=generated" in shown.err
    backup = (Path(logger.record_dir) / "consoleout_backup.txt").read_text()
    assert "epoch 2/2  step 8" in backup


def test_the_scheduler_steps_once_per_epoch(logger):
    class Scheduler:
        steps = 0

        def step(self):
            self.steps += 1

    scheduler = Scheduler()
    mb_trainer(logger, lr_scheduler=scheduler, epoch=3).train()
    assert scheduler.steps == 3


def test_the_model_free_trainer_takes_the_kits_arguments(logger):
    policy = CountingPolicy()
    trainer = MFPolicyTrainer(
        policy=policy,
        eval_env=KitStyleEnv(),
        buffer=CountingBuffer("data"),
        logger=logger,
        epoch=2,
        step_per_epoch=3,
        batch_size=5,
        eval_episodes=1,
        lr_scheduler=None,
    )
    assert set(trainer.train()) == {"last_10_performance"}
    assert policy.calls["update"] == 6 and policy.batches[0]["rows"] == 5


def test_a_policy_that_only_knows_learn_is_trained_through_it(logger):
    class KitPolicy(CountingPolicy):
        update = property()  # hidden: hasattr is false

        def learn(self, batch):
            self.log.append("learn")
            return {"loss/actor": 3.0}

    policy = KitPolicy()
    MFPolicyTrainer(policy, None, CountingBuffer("data"), logger, 1, 2).train()
    assert policy.calls["learn"] == 2
    assert float(rows_of(logger)[0]["loss/actor"]) == 3.0


def test_work_beside_the_steps_has_a_bar_on_a_terminal(logger, capsys, terminal):
    terminal()
    with Stage(logger, "fitted-Q evaluation") as stage:
        for share in (0.25, 0.5, 1.0):
            stage(share)
        assert (stage._bar.n, stage._bar.total) == (100, 100)
    shown = capsys.readouterr()
    assert "fitted-Q evaluation" in shown.err and not shown.out


def test_work_beside_the_steps_is_told_in_lines_elsewhere_where_it_takes_long(logger, capsys):
    now = [0.0]
    with Stage(logger, "value in the model", lambda: now[0]) as stage:
        for second in range(1, 15):
            now[0] = float(second)
            stage(second / 20)
    assert capsys.readouterr().out.splitlines() == [
        "value in the model: 10%",
        "value in the model: 60%",
    ]
