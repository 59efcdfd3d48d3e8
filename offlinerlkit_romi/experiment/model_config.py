"""What a run with a dynamics model can be told beside `config`'s."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.experiment.config import Recurring, SoftConfig
from offlinerlkit_romi.experiment.limits import (
    LARGE,
    Between,
    Count,
    Few,
    Part,
    Rate,
    Share,
    Size,
    Weight,
    Whole,
    Widths,
    own_or,
    some,
)


@dataclass(frozen=True)
class ModelBasedConfig(SoftConfig):
    """What every model-based algorithm shares."""

    dynamics: Annotated[str, own_or("learned")] = "learned"
    """learned, or an ensemble of your own to fit: module:function of (S, A) that returns it."""
    real_ratio: Share = 0.5
    """Share of the data set's transitions in a policy batch, 0 to 1."""
    n_ensemble: Few = 7
    """Members of the dynamics ensemble."""
    n_elites: Few = 5
    """Members used in rollouts: the best on held-out data."""
    dynamics_hidden_dims: Widths = (200, 200, 200, 200)
    """Widths of the dynamics model's hidden layers."""
    dynamics_weight_decay: Annotated[tuple[float, ...], some, Between(0, 1)] = (
        2.5e-5,
        5e-5,
        7.5e-5,
        7.5e-5,
        1e-4,
    )
    """Weight decay of each layer of the dynamics model, one more than the hidden layers."""
    dynamics_lr: Rate = 3e-4
    """Learning rate of the dynamics model's pre-training."""
    dynamics_batch_size: Size = 256
    """Transitions per member and step of the pre-training."""
    dynamics_max_epochs: Count | None = None
    """Most epochs of the pre-training; None leaves the end to early stopping."""
    dynamics_early_stop: bool = True
    """Stop the pre-training when no member's held-out error has improved by 1 % for a while."""
    dynamics_threads: Annotated[int, Between(0, 1024)] = 0
    """CPU threads of the pre-training, whose products are large; 0: those of --threads."""
    max_epochs_since_update: Count = 10
    """Early stopping: epochs without improvement."""
    holdout_ratio: Part = 0.1
    """Share of the data held out in the pre-training (1000 transitions at most)."""
    logvar_loss_coef: Weight = 0.001
    """Weight of the bounds on the predicted log-variances in the pre-training."""
    load_dynamics_path: str | None = None
    """Folder of a saved dynamics model, used instead of pre-training one; refused where its
    observations (standardised or raw) or rewards are not this run's."""
    dynamics_cache: str = "auto"
    """Folder of pre-trained dynamics models, which runs with the very same pre-training share:
    auto for .dynamics under --log-root, off for none."""

    reward: Literal["learned", "known"] = "learned"
    """Rewards of the model's transitions: learned, or known, the simulator's formula of (s, a, s')
    (HalfCheetah, Hopper, Walker2d). Your own data: known wherever there is a --reward-fn."""
    error_segments: Annotated[int, Between(0, LARGE)] = 64
    """Pieces of episodes, as long as a rollout, kept from the model: its prediction error at steps
    1 to H on them is logged every epoch. 0 for none."""

    rollout_freq: Count = 250
    """Policy updates from one model rollout to the next."""
    rollout_batch_size: Size = 50_000
    """Data states a model rollout starts from."""
    rollout_length: Annotated[int, Between(1, 10_000)] = 5
    """Model steps per rollout (H)."""
    model_retain_epochs: Count = 5
    """Epochs for which model transitions are kept."""
    model_buffer: Literal["auto", "device", "host"] = "auto"
    """Where they are kept: on the device, in the host's pinned memory, or auto (on the device if
    they fit there)."""

    @property
    def model(self) -> ModelBasedConfig:
        """These settings."""
        return self

    @property
    def recurring(self) -> tuple[Recurring, ...]:
        """Rollouts: the first comes before the first update."""
        rollouts = math.ceil(self.steps / self.rollout_freq)
        return (*super().recurring, Recurring("rollout", "rollout_freq", rollouts))

    @property
    def real_rows(self) -> int:
        """Rows of a policy batch that are the data's; the model's are the others."""
        return int(self.batch_size * self.real_ratio)

    @property
    def adaptation(self) -> AdaptiveConfig | None:
        """How the model goes on learning beside the policy, where it does."""
        return None

    @property
    def cloning(self) -> AdversarialConfig | None:
        """How the actor is cloned from the data before everything else, where it is."""
        return None

    def check(self) -> None:
        """Raise a UserError for values that do not fit together."""
        super().check()
        if self.n_elites > self.n_ensemble:
            raise UserError(
                f"--n-elites is {self.n_elites}: there are only {self.n_ensemble} members"
            )
        layers, decays = len(self.dynamics_hidden_dims) + 1, len(self.dynamics_weight_decay)
        if layers != decays:
            raise UserError(
                f"--dynamics-weight-decay has {decays} values: the model has {layers} layers "
                "(its hidden layers and the output)"
            )
        if not self.dynamics_early_stop and self.dynamics_max_epochs is None:
            raise UserError(
                "--no-dynamics-early-stop leaves the pre-training without an end: "
                "give --dynamics-max-epochs"
            )


@dataclass(frozen=True)
class AdaptiveConfig(ModelBasedConfig):
    """What RAMBO, ROMI and ROMBRL share: the model goes on learning beside the policy."""

    dynamics_adv_lr: Rate = 3e-4
    """Learning rate of the model while the policy trains (ROMI's beta1)."""
    dynamics_update_freq: Whole = 1000
    """Policy updates from one round of model updates to the next."""

    @property
    def updates_per_round(self) -> int:
        """Model updates in a round."""
        return 1

    @property
    def rows_per_update(self) -> int:
        """Transitions that a member of the model sees in one of them."""
        raise NotImplementedError

    @property
    def recurring(self) -> tuple[Recurring, ...]:
        """Rollouts, and model updates in rounds, the first after so many policy updates."""
        every = self.dynamics_update_freq
        updates = self.steps // every * self.updates_per_round if every else 0
        own = Recurring("model update", "dynamics_update_freq", updates, ahead=False)
        return (*super().recurring, own)

    @property
    def adaptation(self) -> AdaptiveConfig:
        """These settings."""
        return self


@dataclass(frozen=True)
class AdversarialConfig(AdaptiveConfig):
    """What RAMBO and ROMI share: model updates one by one, and a policy cloned from the data."""

    adv_train_steps: Count = 1000
    """Model updates per round (K)."""
    adv_batch_size: Size = 256
    """Transitions per model update."""
    bc_epoch: Whole = 0
    """Epochs of behaviour cloning before everything else."""
    bc_lr: Rate = 1e-4
    """Learning rate of behaviour cloning."""
    bc_batch_size: Size = 256
    """Batch size of behaviour cloning."""
    load_bc_path: str | None = None
    """Folder of a saved behaviour-cloned policy, used instead of cloning one."""

    @property
    def updates_per_round(self) -> int:
        """K."""
        return self.adv_train_steps

    @property
    def rows_per_update(self) -> int:
        """Of the data; the rollout's are as many."""
        return self.adv_batch_size

    @property
    def cloning(self) -> AdversarialConfig:
        """These settings."""
        return self

    @property
    def standardises(self) -> bool:
        """The policy and its model see standardised observations (as in the kit)."""
        return True
