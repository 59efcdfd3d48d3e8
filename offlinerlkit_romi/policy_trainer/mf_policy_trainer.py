"""Trainer of model-free policies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from offlinerlkit_romi.engine import Engine
from offlinerlkit_romi.policy_trainer.checkpoints import Checkpoints
from offlinerlkit_romi.policy_trainer.diagnosis import DATA
from offlinerlkit_romi.policy_trainer.events import Metrics
from offlinerlkit_romi.policy_trainer.interrupts import Interrupts
from offlinerlkit_romi.policy_trainer.loop import PolicyTrainer
from offlinerlkit_romi.policy_trainer.scoring import make_scorer
from offlinerlkit_romi.policy_trainer.sentinel import Sentinel
from offlinerlkit_romi.utils.logger import Logger


class MFPolicyTrainer(PolicyTrainer):
    """Updates a policy on minibatches of one buffer; the kit's arguments in the kit's order.

    Args:
        policy: What is trained.
        eval_env: A task or its name, an environment with `get_normalized_score`, or None.
        buffer: Where batches are drawn from.
        logger: Takes curves and messages, and names the folders to save to.
        epoch: Number of epochs.
        step_per_epoch: Updates per epoch.
        batch_size: Transitions per update.
        eval_episodes: Episodes per evaluation; 0 for none.
        lr_scheduler: Stepped once per epoch.
        eval_freq: Epochs from one evaluation to the next; the last epoch always has one.
        eval_seed: Base of the evaluation episodes' seeds.
        data_source: Shown beside the scores.
        close_logger: Close the logger at the end, as the kit does.
        checkpoints: Saves the full state; none saves the policy's weights alone.
        interrupts: Tells of a signal to stop between two updates.
        sentinel: Watches for divergence; by default one that knows no bounds of Q and states.
        on_divergence: "stop" the run, or only "warn".
        diagnose: Returns further metrics, once per epoch.
        engine: Carries out the updates; by default eagerly.
    """

    def __init__(
        self,
        policy: Any,
        eval_env: Any,
        buffer: Any,
        logger: Logger,
        epoch: int = 1000,
        step_per_epoch: int = 1000,
        batch_size: int = 256,
        eval_episodes: int = 10,
        lr_scheduler: Any = None,
        *,
        eval_freq: int = 1,
        eval_seed: int = 0,
        data_source: str = "",
        close_logger: bool = True,
        checkpoints: Checkpoints | None = None,
        interrupts: Interrupts | None = None,
        sentinel: Sentinel | None = None,
        on_divergence: str = "stop",
        diagnose: Callable[[], Metrics] | None = None,
        engine: Engine | None = None,
    ) -> None:
        super().__init__(
            policy,
            logger,
            make_scorer(eval_env, eval_episodes, eval_seed),
            epoch=epoch,
            step_per_epoch=step_per_epoch,
            lr_scheduler=lr_scheduler,
            eval_freq=eval_freq,
            data_source=data_source,
            close_logger=close_logger,
            checkpoints=checkpoints,
            interrupts=interrupts,
            sentinel=sentinel,
            on_divergence=on_divergence,
            diagnose=diagnose,
            engine=engine,
        )
        self.buffer = buffer
        self._batch_size = batch_size

    def _sample(self) -> Any:
        return self.buffer.sample(self._batch_size)

    def _transitions(self) -> dict[str, Any]:
        return {DATA: self.buffer}
