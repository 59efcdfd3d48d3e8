"""This package's pieces."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Hashable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from offlinerlkit_romi.bench.measure import Work
from offlinerlkit_romi.bench.workload import (
    LABELS,
    ROLLOUT_ROWS,
    ROLLOUTS,
    STEPS,
    WARM_UPS,
    Workload,
    steps_of,
)
from offlinerlkit_romi.data import load
from offlinerlkit_romi.dynamics.ensemble_dynamics import EnsembleDynamics
from offlinerlkit_romi.engine import Engine, Generators, MetricMeans, Steps, spared_collector
from offlinerlkit_romi.envs import Evaluator
from offlinerlkit_romi.envs.make import make_env
from offlinerlkit_romi.experiment.build import Parts, Setting, build_policy
from offlinerlkit_romi.experiment.parts import Buffers, prepare
from offlinerlkit_romi.model_buffer import MaskedReplayBuffer
from offlinerlkit_romi.policy.model_based.on_model import masked_rollout, rollout_metrics
from offlinerlkit_romi.policy.soft_policy import SoftPolicy
from offlinerlkit_romi.policy_trainer import MBPolicyTrainer, Sentinel
from offlinerlkit_romi.utils.logger import Logger

QUIET_LOGVAR = -6.0  # bound of an untrained model's log-variance: its states stay healthy


class OurPieces:
    """Every piece as a `Work`; policies and buffers are made when a piece asks for them.

    Args:
        workload: The sizes.
        label: A column of the table; by default what the engine is called there.
        precision: Of float32 products; by default the workload's.
        mode: The engine, as in `--engine`, that carries out what training lets it carry out.
    """

    def __init__(
        self,
        workload: Workload,
        label: str = "",
        precision: str | None = None,
        mode: str = "eager",
    ) -> None:
        self.workload, self.mode = workload, mode
        self.label = label or LABELS[mode]
        self.precision = workload.precision if precision is None else precision
        self._made: dict[str, tuple[Any, Buffers, Any]] = {}

    def policy_step(self, algo: str) -> Work:
        """Draw a batch, update the policy, add up its metrics."""
        policy, buffers, config = self.made(algo)
        means, periods, model, fake = MetricMeans(), [config.step_per_epoch], config.model, None
        if model is not None:
            fake = buffers.for_model.fake
            fake.add_batch(*buffers.real.tensors().values())
            updates = model.adaptation
            periods += [model.rollout_freq, updates.dynamics_update_freq if updates else 0]
        draw = drawing(config, buffers.real, fake)

        def update(count: int, phase: int) -> None:
            for _ in range(count):
                means.add(policy.update(draw()))

        engine, told = self._engine()
        steps = engine.steps("the policy step", update, self._state(policy, buffers, means))
        return self._replayed(
            steps, engine.unrolled(math.gcd(*periods)), lambda: (policy.phase,), told
        )

    def model_update(self, algo: str) -> Work:
        """One of RAMBO's or ROMI's model updates; a round's first is no different here."""
        policy, buffers, config = self.made(algo)
        rows, means = buffers.for_model.rows, MetricMeans()

        def update(count: int) -> None:
            for metrics in islice(policy.model_updates(rows, first=False), count):
                means.add(metrics)

        engine, told = self._engine()
        steps = engine.steps("the model update", update, self._state(policy, buffers, means))
        length = config.rollout_length
        # eagerly a round is one portion: then as long as a rollout in the model
        round_ = config.adv_train_steps if engine.captures else length
        return self._replayed(steps, engine.portions(round_, length)[0], tuple, told)

    def fit_step(self) -> Work:
        """One step of the dynamics model's pre-training."""
        policy, buffers, config = self.made("rambo")
        dynamics: EnsembleDynamics = policy.dynamics
        inputs, targets = dynamics.format_samples_for_training(buffers.real.tensors())
        rows = (dynamics.scaler.transform_tensor(inputs), targets)
        fit = dynamics._make_fit(rows, rows, config.dynamics_batch_size, config.logvar_loss_coef)
        fit.engine, told = self._engine()
        whole = fit.rows.shape[1] // config.dynamics_batch_size
        replay = fit.engine.portions(whole)[0] if fit.engine.captures else 1
        count, steps = min(whole, self._whole(replay)), fit.steps()
        return self._captured(self._work(lambda: fit.step_batches(steps, count), count), told)

    def rollout(self) -> Work | None:
        """RAMBO's policy in its model, without penalty; None where training never captures it.

        Rollouts into a buffer that keeps no fixed shape are the policy's own, eager ones.
        """
        policy, buffers, config = self.made("rambo")
        real, fake, means = buffers.real, buffers.for_model.fake, MetricMeans()
        size, length = config.rollout_batch_size, config.rollout_length
        engine, told = self._engine()
        if not isinstance(fake, MaskedReplayBuffer):
            starts = real.sample(size)["observations"]
            eager = self._work(lambda: policy.rollout(starts, length), 1)
            return None if engine.captures else eager

        def roll_out() -> None:
            starts = real.sample(size)["observations"]
            made, mask = masked_rollout(policy.dynamics, policy.act_in_model, starts, length)
            fake.add_batch(**made, mask=mask)
            means.add(rollout_metrics(made, mask))

        state = self._state(policy, buffers, means, cursor=fake.cursor)
        return self._captured(self._work(engine.steps("the rollout", roll_out, state), 1), told)

    def evaluation(self) -> Work:
        """All episodes side by side."""
        return self._evaluation(lambda task: Evaluator(task, episodes=self.workload.episodes))

    def evaluation_one_by_one(self) -> Work:
        """One environment, episode after episode."""
        return self._evaluation(
            lambda task: Evaluator(make_env(task), episodes=self.workload.episodes), "one by one"
        )

    def loading(self, path: Path) -> Work:
        """Read a file, check it, pair its rows."""
        return self._work(lambda: load(self.workload.task.name, str(path), progress=False), 1)

    def epoch(self, algo: str, folder: Path) -> Work:
        """An epoch by the real trainer, each of its parts cut to a share; evaluation left out.

        Its units are policy steps: milliseconds per step of a whole epoch. What it waits for once
        per epoch, to read the metrics and to save the weights, is in it whole.

        Args:
            algo: With an adversary.
            folder: Where a run folder may lie.
        """
        steps = steps_of(self.workload.epoch_share)
        rows = round(ROLLOUT_ROWS * steps / STEPS)
        short = {"adv_train_steps": steps, "rollout_freq": steps // ROLLOUTS}
        short |= {"step_per_epoch": steps, "dynamics_update_freq": steps}
        overrides = {**self.workload.overrides, **short}
        sizes = replace(self.workload, rollout_rows=rows, overrides=overrides)
        logger = Logger(str(folder / f"{algo} {self.mode}"), {}, console_tables=False)
        trainer, told = OurPieces(sizes, mode=self.mode)._trainer(algo, logger)
        start = trainer.state_dict()

        def run() -> None:
            with (
                open(os.devnull, "w", encoding="utf-8") as nowhere,
                redirect_stdout(nowhere),
                redirect_stderr(nowhere),
            ):
                trainer.train()
            trainer.load_state_dict(start)  # weights, buffers and graphs go on as they are

        work = Work(self.label, run, steps, precision=self.precision, slow=True, algo=algo)
        return self._captured(work, told)

    def made(self, algo: str) -> tuple[Any, Buffers, Any]:
        """Policy, buffers and configuration, made once."""
        if algo not in self._made:
            config, device = self.workload.config(algo), self.workload.device
            setting, buffers = prepare(config, self.workload.dataset, device, Generators(0, device))
            policy = build_policy(config, setting)
            policy.train()
            if config.model is not None:
                settle_model(policy.dynamics, buffers.real.tensors())
            self._made[algo] = policy, buffers, config
        return self._made[algo]

    def _evaluation(self, make: Callable[[Any], Evaluator], variant: str = "") -> Work:
        task = self.workload.evaluation_task()
        config, device = self.workload.config("bc"), torch.device("cpu")
        setting = Setting(task.obs_dim, task.action_dim, device, Generators(0, device))
        actor = Parts(config, setting).soft_actor()
        policy = SoftPolicy(actor, torch.optim.SGD(actor.parameters(), 0.0), 0.2)
        evaluator = make(task)
        return replace(self._work(lambda: evaluator(policy.eval()), 1), variant=variant)

    def _trainer(self, algo: str, logger: Logger) -> tuple[_Epochs, list[str]]:
        policy, buffers, config = self.made(algo)
        engine, told = self._engine()
        policy.engine = engine
        settings: dict[str, Any] = {
            "epoch": 1,
            "step_per_epoch": config.step_per_epoch,
            "batch_size": config.batch_size,
            "real_ratio": config.real_ratio,
            "eval_episodes": 0,
            "dynamics_update_freq": config.dynamics_update_freq,
            "updates_per_round": config.adv_train_steps,
            "model_buffer": buffers.for_model.rows,
            "close_logger": False,
            "sentinel": _Watching(policy.training_state()),
            "engine": engine,
        }
        rollout = config.rollout_freq, config.rollout_batch_size, config.rollout_length
        fake = buffers.for_model.fake
        return _Epochs(policy, None, buffers.real, fake, logger, rollout, **settings), told

    def _engine(self) -> tuple[Engine, list[str]]:
        """An engine, and what it tells."""
        told: list[str] = []
        return self.workload.make_engine(self.mode, self.workload.device, told.append), told

    def _state(
        self, policy: Any, buffers: Buffers, means: MetricMeans, **others: Any
    ) -> Callable[[], Mapping[str, Any]]:
        """What an update changes."""
        draws = {"draws": buffers.real.generator, "means": means}
        return lambda: policy.training_state() | draws | others

    def _replayed(
        self, steps: Steps, replay: int, key: Callable[[], tuple[Hashable, ...]], told: list[str]
    ) -> Work:
        """Calls of a step that does `replay` updates each, as many as `--steps` at least."""
        count = self._whole(replay)

        def run() -> None:
            for _ in range(count // replay):
                steps(replay, *key())

        return self._captured(self._work(run, count), told)

    def _whole(self, replay: int) -> int:
        """Updates per sample: whole replays."""
        return -(-self.workload.steps // replay) * replay

    def _captured(self, work: Work, told: list[str]) -> Work:
        """What the engine carries out, and tells."""
        return replace(work, engine=self.mode, warm_ups=WARM_UPS[self.mode], told=told)

    def _work(self, run: Callable[[], Any], units: int) -> Work:
        def spared() -> None:  # as the trainer and the fit do
            with spared_collector():
                run()

        return Work(self.label, spared, units, "eager", self.precision)


class _Epochs(MBPolicyTrainer):
    """A trainer that only ever comes to the end of an epoch."""

    def _save_final(self) -> None:
        """Once per run, not per epoch."""


class _Watching(Sentinel):
    """A sentinel for several calls of `train`."""

    def close(self) -> None:
        """Not yet."""


def drawing(config: Any, real: Any, fake: Any) -> Callable[[], Any]:
    """What draws a batch as the trainers do, this package's or the kit's."""
    n = config.batch_size
    if config.model is None:
        return partial(real.sample, n)
    share = int(n * config.real_ratio)
    return lambda: {"real": real.sample(share), "fake": fake.sample(n - share)}


def settle_model(dynamics: Any, data: Any) -> None:
    """Fit the scaler and keep the untrained model's noise small, this package's or the kit's."""
    inputs = dynamics.format_samples_for_training(data)[0]
    dynamics.scaler.fit(inputs.cpu().numpy() if isinstance(inputs, torch.Tensor) else inputs)
    with torch.no_grad():
        dynamics.model.max_logvar.fill_(QUIET_LOGVAR)
