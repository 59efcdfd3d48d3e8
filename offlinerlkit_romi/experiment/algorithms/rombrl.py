"""ROMBRL: what it can be told, and how it is put together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.experiment.algorithms.mobile import MOBILEConfig
from offlinerlkit_romi.experiment.limits import (
    Between,
    Count,
    Part,
    Positive,
    Rate,
    Share,
    Size,
    Weight,
)
from offlinerlkit_romi.experiment.model_config import AdaptiveConfig

if TYPE_CHECKING:
    from offlinerlkit_romi.experiment.build import Parts


@dataclass(frozen=True)
class ROMBRLConfig(AdaptiveConfig, MOBILEConfig):
    """ROMBRL: MOBILE against a model that answers the policy, within a budget of its divergence.

    arXiv 2505.13709, ICML 2026.
    """

    leader_mode: Literal["plain", "stackelberg", "kkt"] = "kkt"
    """The policy's gradient against the model: plain (Eq. 7), or corrected for the model's answer,
    stackelberg at a fixed multiplier (Eq. 8), kkt within the budget (Eq. 9)."""
    adversary: bool = True
    """Let the model work against the policy; without, the budget alone holds it and nothing is
    corrected: the arm to compare with."""
    eps: Positive = 10.0
    """Budget: how far the model may go from the pre-trained one, KL in nats per transition."""
    lambda_mode: Literal["dual", "fixed"] = "dual"
    """The multiplier of the budget: moved by how far it is exceeded, or fixed."""
    lambda_init: Positive = 1.0
    """The multiplier at the start."""
    lambda_lr: Positive = 0.2
    """Rate of the multiplier's logarithm per round."""
    kl_rows: Size = 2048
    """Transitions of the data on which a round measures the divergence."""
    anchor: Literal["kl", "nll"] = "kl"
    """What holds the model: its divergence from the pre-trained one, or the data's likelihood (the
    released code)."""

    trajectories: Size = 2500
    """Trajectories in the model per round (n)."""
    trajectory_length: Annotated[int, Between(1, 10_000)] = 10
    """Their steps (T)."""
    model_horizon: Annotated[int, Between(1, 10_000)] = 10
    """Steps of them that the model learns from (h); all of them unless --leader-mode is plain."""
    gae_lambda: Share = 0.95
    """Weight of longer looks ahead in the advantages."""
    normalise: Literal["all", "time_step"] = "all"
    """Normalise advantages over all transitions, or over each time step's (the released code)."""
    discount_weights: Literal["both", "leader", "none"] = "both"
    """Whose sums weigh a step by gamma^t: both, the policy's alone (the released code), or none."""
    discount_restarts: bool = True
    """Count that t from the start of each episode; otherwise on through it."""
    clip_range: Part = 0.2
    """Ratios of densities beyond 1 - c and 1 + c have no gradient."""

    leader_epochs: Count = 10
    """Passes of the policy over a round's trajectories."""
    leader_batch: Size = 256
    """Trajectories per step of the policy."""
    leader_lr: Rate = 1e-4
    """Learning rate of the policy's steps against the model."""
    leader_optim: Literal["own", "shared"] = "own"
    """Adam of these steps: their own, or MOBILE's for the actor (the released code)."""
    correction_weight: Weight = 1.0
    """Factor of the correction; 0 leaves it out."""
    correction_cap: Weight = 1.0
    """Largest norm of the correction, in norms of the plain gradient."""
    correction_every: Count = 1
    """Every so many passes are corrected."""
    curvature_trajectories: Size = 8
    """Trajectories sampled for the model's curvature in each correction (m)."""
    curvature_rows: Size = 80
    """Transitions of the data for its Fisher part (M)."""
    fisher: Literal["model", "data"] = "model"
    """Of the model's samples there, or of the data's (empirical)."""
    damping: Literal["safe", "fixed"] = "safe"
    """Added to the curvature: at least what makes it positive, or --damping-floor alone."""
    damping_floor: Positive = 5.0
    """Least damping of the curvature."""

    follower_epochs: Count = 10
    """Passes of the model over a round's transitions."""
    follower_batch: Size = 256
    """Transitions per step of the model, and as many of the data."""
    follower_clip: Literal["max", "min"] = "max"
    """Side of the model's clipped objective: max stops one that runs on, min (the released code)
    does not."""
    resimulate: bool = True
    """Draw the successors of a policy batch's model transitions anew from the present model."""

    @property
    def rows_per_update(self) -> int:
        """A follower's batch and as many rows of the data, or those of the constraint."""
        return max(2 * self.follower_batch, self.kl_rows)

    def check(self) -> None:
        """Raise a UserError for values that do not fit together."""
        super().check()
        steps, horizon = self.trajectory_length, self.model_horizon
        if horizon > steps or (horizon < steps and self.leader_mode != "plain"):
            raise UserError(
                f"--model-horizon is {horizon} and --trajectory-length {steps}: a model learns "
                f"from no more steps, and with --leader-mode {self.leader_mode} from all of them"
            )
        if self.curvature_trajectories > self.trajectories:
            raise UserError(
                f"--curvature-trajectories is {self.curvature_trajectories}: a round has only "
                f"{self.trajectories}"
            )

    def build(self, parts: Parts) -> Any:
        """The policy with all it is made of."""
        dynamics, game = parts.dynamics(), parts.find("Game")
        soft = parts.soft()
        own = parts.adam(soft["actor"], self.leader_lr) if self.leader_optim == "own" else None
        return parts.policy(
            "ROMBRLPolicy",
            dynamics,
            dynamics_adv_optim=parts.adam(dynamics.model, self.dynamics_adv_lr),
            leader_optim=own,
            game=game(**{name: getattr(self, name) for name in game.__dataclass_fields__}),
            **self.mobile(parts),
            **soft,
        )
