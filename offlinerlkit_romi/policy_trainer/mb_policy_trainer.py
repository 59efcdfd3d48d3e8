"""Trainer of model-based policies: the shared loop plus rollouts and model updates."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from offlinerlkit_romi.model_buffer import HostReplayBuffer, MaskedReplayBuffer
from offlinerlkit_romi.policy.model_based.on_model import masked_rollout, rollout_metrics
from offlinerlkit_romi.policy_trainer.divergence import DATA, MODEL_DATA
from offlinerlkit_romi.policy_trainer.loop import PolicyTrainer, TrainerOptions
from offlinerlkit_romi.policy_trainer.timing import MODEL_UPDATE, ROLLOUT
from offlinerlkit_romi.policy_trainer.updates import Event, Metrics
from offlinerlkit_romi.utils.logger import Logger

if TYPE_CHECKING:
    from typing_extensions import Unpack


class MBPolicyTrainer(PolicyTrainer):
    """Updates a policy on a mixture of data and model rollouts; the kit's arguments in its order.

    Args:
        policy: What is trained; needs `rollout` and, for model updates, `update_dynamics`.
        eval_env: A task or its name, an environment with `get_normalized_score`, or None.
        real_buffer: The data set.
        fake_buffer: Where model transitions go.
        logger: Takes curves and messages, and names the folders to save to.
        rollout_setting: Policy steps between rollouts, start states per rollout, steps H.
        epoch: Number of epochs.
        step_per_epoch: Policy updates per epoch.
        batch_size: Transitions per policy update.
        real_ratio: Share of them from the data set, rounded down to whole transitions.
        eval_episodes: Episodes per evaluation; 0 for none.
        lr_scheduler: Stepped once per epoch.
        dynamics_update_freq: Policy steps between rounds of model updates; 0 for none.
        model_buffer: What model updates draw from, where some of the data's next states must not
            teach a model; by default `real_buffer`.
        updates_per_round: Model updates in one `update_dynamics`, for the time per update.
        **options: What `PolicyTrainer` takes by keyword.
    """

    def __init__(
        self,
        policy: Any,
        eval_env: Any,
        real_buffer: Any,
        fake_buffer: Any,
        logger: Logger,
        rollout_setting: tuple[int, int, int],
        epoch: int = 1000,
        step_per_epoch: int = 1000,
        batch_size: int = 256,
        real_ratio: float = 0.05,
        eval_episodes: int = 10,
        lr_scheduler: Any = None,
        dynamics_update_freq: int = 0,
        *,
        model_buffer: Any = None,
        updates_per_round: int = 1,
        **options: Unpack[TrainerOptions],
    ) -> None:
        super().__init__(
            policy, logger, eval_env, eval_episodes, epoch, step_per_epoch, lr_scheduler, **options
        )
        self.real_buffer = real_buffer
        self.fake_buffer = fake_buffer
        self.model_buffer = real_buffer if model_buffer is None else model_buffer
        rollout_freq, self._rollout_batch_size, self._rollout_length = rollout_setting
        self._real_rows = int(batch_size * real_ratio)
        self._fake_rows = batch_size - self._real_rows
        roll_out = self._roll_out
        if isinstance(fake_buffer, MaskedReplayBuffer):
            self._rollouts = self.engine.steps("the rollout", self._masked_roll_out, self._rolled)
            roll_out = self._roll_out_on_device
        self.events = (
            Event(ROLLOUT, rollout_freq, roll_out, before_update=True),
            Event(MODEL_UPDATE, dynamics_update_freq, self._update_model, units=updates_per_round),
        )

    def state_parts(self) -> dict[str, Any]:
        """Everything that training mutates, the model's own transitions included."""
        fitted = {f"dynamics/{name}": x for name, x in self.policy.dynamics.fitted().items()}
        return super().state_parts() | {"fake_buffer": self.fake_buffer} | fitted

    def _sample(self) -> dict[str, Any]:
        return {
            "real": self.real_buffer.sample(self._real_rows),
            "fake": self.fake_buffer.sample(self._fake_rows),
        }

    def _roll_out(self) -> Metrics:
        starts = self.real_buffer.sample(self._rollout_batch_size)["observations"]  # (B, S)
        transitions, info = self.policy.rollout(starts, self._rollout_length)
        self.fake_buffer.add_batch(**transitions)
        metrics = {f"rollout_info/{name}": value for name, value in info.items()}
        return metrics | self.sentinel.outside(transitions["next_obss"])

    def _roll_out_on_device(self) -> Metrics:
        self._updates.clock.fill_(self._steps_done + 1)
        self._rollouts()
        return {}

    def _masked_roll_out(self) -> None:
        """`_roll_out` in fixed shapes, with all bookkeeping on the device."""
        starts = self.real_buffer.sample(self._rollout_batch_size)["observations"]  # (B, S)
        transitions, mask = masked_rollout(
            self.policy.dynamics, self.policy.act_in_model, starts, self._rollout_length
        )
        self.fake_buffer.add_batch(**transitions, mask=mask)
        info = rollout_metrics(transitions, mask)
        metrics = {f"rollout_info/{name}": value for name, value in info.items()}
        metrics |= self.sentinel.outside(transitions["next_obss"], mask)
        self._updates.means.add(metrics)
        self.sentinel.watch(metrics, self._updates.clock)

    def _rolled(self) -> dict[str, Any]:
        # not the rows: a warm-up writes those that the rollout itself will write, or spare ones
        return self._updates.changed() | {"cursor": self.fake_buffer.cursor}

    def _capture_obstacle(self) -> str:
        if isinstance(self.fake_buffer, HostReplayBuffer):
            return "the model buffer lies in the host's memory"
        if (
            not self.engine.live
            and self.engine.records
            and not isinstance(self.fake_buffer, MaskedReplayBuffer)
        ):
            return (
                "the host counts the model buffer's rows, and a graph would keep their number: "
                "give a MaskedReplayBuffer"
            )
        return ""

    def _transitions(self) -> dict[str, Any]:
        return {DATA: self.real_buffer, MODEL_DATA: self.fake_buffer}

    def _update_model(self) -> Metrics:
        metrics: Metrics = self.policy.update_dynamics(self.model_buffer)
        return metrics

    def _save_final(self) -> None:
        super()._save_final()
        folder = Path(self.logger.model_dir)
        with tempfile.TemporaryDirectory(dir=folder, prefix="partial-") as partial:
            self.policy.dynamics.save(partial)
            for file in Path(partial).iterdir():
                os.replace(file, folder / file.name)
