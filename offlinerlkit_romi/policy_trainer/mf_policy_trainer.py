"""Trainer of model-free policies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from offlinerlkit_romi.policy_trainer.divergence import DATA
from offlinerlkit_romi.policy_trainer.loop import PolicyTrainer, TrainerOptions
from offlinerlkit_romi.utils.logger import Logger

if TYPE_CHECKING:
    from typing_extensions import Unpack


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
        **options: What `PolicyTrainer` takes by keyword.
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
        **options: Unpack[TrainerOptions],
    ) -> None:
        super().__init__(
            policy, logger, eval_env, eval_episodes, epoch, step_per_epoch, lr_scheduler, **options
        )
        self.buffer = buffer
        self._batch_size = batch_size

    def _sample(self) -> Any:
        return self.buffer.sample(self._batch_size)

    def _transitions(self) -> dict[str, Any]:
        return {DATA: self.buffer}
