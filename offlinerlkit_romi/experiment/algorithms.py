"""The algorithms: what each can be told beyond what all share, and their names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.experiment.config import (
    AdversarialConfig,
    Compat,
    CriticConfig,
    ModelBasedConfig,
    RunConfig,
    SoftConfig,
)
from offlinerlkit_romi.experiment.limits import (
    BIG,
    WIDE,
    Between,
    Count,
    Dropout,
    Few,
    Number,
    Part,
    Positive,
    Rate,
    Share,
    Weight,
    Widths,
    rising,
)


@dataclass(frozen=True)
class KitConfig(RunConfig):
    """What every algorithm of OfflineRL-Kit's shares."""

    compat: Compat = "paper"
    """paper, or kit: OfflineRL-Kit's arithmetic, quirks included."""


@dataclass(frozen=True)
class RAMBOConfig(AdversarialConfig, KitConfig):
    """RAMBO: robust adversarial model-based offline RL."""

    adv_weight: Weight = 3e-4
    """Weight of the adversarial loss against the model's likelihood; 0 switches it off."""
    adv_reduction: Literal["mean", "sum"] = "mean"
    """How the adversarial loss is reduced over the batch."""


@dataclass(frozen=True)
class ROMIConfig(AdversarialConfig):
    """ROMI: robust value-aware model learning with implicitly differentiable adaptive weighting.

    arXiv 2603.08118, not the Reverse Offline Model-based Imagination of 2021.
    """

    xi: Weight = 0.01
    """Scale of the uncertainty set around a next state; larger is more conservative."""
    num_perturbations: Few = 10
    """States drawn from the uncertainty set per transition (N)."""
    uncertainty_set: Literal["relative", "ball"] = "relative"
    """relative: noise in proportion to the state's norm (released code); ball: Definition 4.1."""
    variant: Literal["exact", "release", "no_weighting"] = "exact"
    """exact: the bilevel gradient; release: what the published code computes; no_weighting: the
    robust value loss alone (Section 5.2)."""
    reward_likelihood: bool = True
    """In no_weighting, train the predicted reward on its own likelihood all the same: the value
    loss does not see it, and nothing else would."""
    preconditioner: Literal["adam", "identity"] = "adam"
    """Derivative of the inner step: of Adam as it is, or the paper's plain gradient descent."""
    inner_optimizer: Literal["adam", "sgd"] = "adam"
    """Optimiser of the model while the policy trains."""
    weight_lr: Rate = 1e-4
    """Learning rate of the weighting network (beta2)."""
    weight_hidden_dims: Widths = (256, 256)
    """Widths of the weighting network's hidden layers."""
    weight_range: Annotated[tuple[float, float], rising, Between(0, BIG, above=True)] = (0.5, 2.0)
    """Smallest and largest weight of a transition."""
    weight_input: Literal["sas", "sa"] = "sas"
    """What the weighting network sees: state, action and next state, or state and action."""

    def check(self) -> None:
        """Raise a UserError for values that do not fit together."""
        super().check()
        if not self.reward_likelihood and self.variant != "no_weighting":
            raise UserError(
                f"--no-reward-likelihood: variant {self.variant} has no reward term of its own; "
                "leave it on, or give --variant no_weighting"
            )
        if self.include_ent_in_adv:
            raise UserError(
                "--include-ent-in-adv: ROMI's robust value has no entropy; leave it off"
            )
        if self.variant == "release" and self.adv_batch_size % 4:
            raise UserError(
                f"--adv-batch-size is {self.adv_batch_size}: the release variant splits it into 4 "
                "groups, give a multiple of 4"
            )


@dataclass(frozen=True)
class MOPOConfig(ModelBasedConfig, KitConfig):
    """MOPO: model-based policy optimisation with a penalty on model uncertainty."""

    penalty_coef: Weight = 2.5
    """Weight of the uncertainty penalty on the model's rewards."""
    uncertainty_mode: Literal["aleatoric", "pairwise-diff", "ensemble_std"] = "aleatoric"
    """What measures uncertainty: predicted spread, disagreement of means, or their deviation."""
    dynamics: Literal["learned", "oracle"] = "learned"
    """learned, or oracle: a diagnostic with the true simulator in the model's place and no penalty;
    what fails there is not the model's fault. HalfCheetah, Hopper and Walker2d, on the CPU."""

    def check(self) -> None:
        """Raise a UserError for values that do not fit together."""
        super().check()
        if self.dynamics == "oracle" and self.estimates in ("model", "both"):
            raise UserError(f"--estimates {self.estimates}: --dynamics oracle has no model to ask")


@dataclass(frozen=True)
class CQLConfig(SoftConfig, KitConfig):
    """CQL: conservative Q-learning. arXiv 2006.04779."""

    cql_weight: Weight = 5.0
    """Weight of the conservative term."""
    temperature: Positive = 1.0
    """Temperature of the log-sum-exp over actions."""
    max_q_backup: bool = False
    """Back up the largest of ten sampled actions' values."""
    deterministic_backup: bool = True
    """Leave the entropy out of the backup."""
    with_lagrange: bool = False
    """Tune the conservative term's weight against --lagrange-threshold."""
    lagrange_threshold: Number = 10.0
    """Gap of values the tuned weight aims at."""
    cql_alpha_lr: Rate = 3e-4
    """Learning rate of the tuned weight."""
    num_repeat_actions: Few = 10
    """Actions drawn per state and source for the log-sum-exp."""


@dataclass(frozen=True)
class IQLConfig(CriticConfig, KitConfig):
    """IQL: implicit Q-learning. arXiv 2110.06169."""

    critic_q_lr: Rate = 3e-4
    """Learning rate of the state-action critics."""
    critic_v_lr: Rate = 3e-4
    """Learning rate of the state critic."""
    expectile: Part = 0.7
    """Expectile of the state value, between 0 and 1; 0.5 is the mean."""
    temperature: Positive = 3.0
    """Inverse temperature of the advantage weights."""
    dropout_rate: Dropout | None = None
    """Dropout in the actor's hidden layers."""
    reward: Literal["raw", "trajectory_range", "minus_one"] = "trajectory_range"
    """Rewards as they are, times 1000 over the range of the data's trajectory returns, or less one
    (AntMaze)."""


@dataclass(frozen=True)
class EDACConfig(SoftConfig, KitConfig):
    """EDAC: ensemble-diversified actor-critic. arXiv 2110.01548."""

    num_critics: Annotated[int, Between(2, 1000)] = 50
    """Critics in the diversified ensemble."""
    eta: Weight = 1.0
    """Weight of the diversity of the critics' gradients."""
    max_q_backup: bool = False
    """Back up the largest of ten sampled actions' values."""
    deterministic_backup: bool = False
    """Leave the entropy out of the backup."""
    normalize_reward: bool = False
    """Standardise the data's rewards."""


@dataclass(frozen=True)
class TD3BCConfig(CriticConfig, KitConfig):
    """TD3+BC: TD3 with a behaviour-cloning term. arXiv 2106.06860."""

    alpha: Weight = 2.5
    """Weight of the value against the cloning term."""
    policy_noise: Weight = 0.2
    """Standard deviation of the target action's noise."""
    noise_clip: Weight = 0.5
    """Bound of the target action's noise."""
    update_actor_freq: Count = 2
    """Critic updates per actor update."""
    exploration_noise: Weight = 0.1
    """Noise of stochastic actions; evaluation is deterministic."""
    normalize_obs: bool = True
    """Standardise observations by the data's statistics."""


@dataclass(frozen=True)
class BCConfig(KitConfig):
    """Behaviour cloning with a deterministic actor."""


@dataclass(frozen=True)
class MCQConfig(SoftConfig, KitConfig):
    """MCQ: mildly conservative Q-learning. arXiv 2206.04745."""

    actor_dropout: Dropout | None = 0.1
    """Dropout in the actor's hidden layers."""
    lmbda: Share = 0.9
    """Weight of the data's Bellman error against that of out-of-distribution actions."""
    num_sampled_actions: Few = 10
    """Actions of the behaviour model per state."""
    behavior_policy_lr: Rate = 1e-3
    """Learning rate of the behaviour model."""
    vae_hidden_dim: Annotated[int, Between(1, WIDE)] = 750
    """Width of the behaviour model's hidden layers."""
    vae_latent_dim: Annotated[int, Between(1, WIDE)] | None = None
    """Width of its code; None means twice the action dimension."""


@dataclass(frozen=True)
class COMBOConfig(ModelBasedConfig, CQLConfig):
    """COMBO: conservative offline model-based policy optimisation. arXiv 2102.08363."""

    uniform_rollout: bool = False
    """Roll out uniform actions instead of the policy's."""
    rho_s: Literal["mix", "model"] = "mix"
    """States whose values are pushed down: of the mixed batch, or of the model's rows alone."""

    def check(self) -> None:
        """Raise a UserError for values that do not fit together."""
        super().check()
        real = int(self.real_ratio * self.batch_size)
        if not real or (self.rho_s == "model" and real == self.batch_size):
            raise UserError(
                f"--real-ratio is {self.real_ratio}: it leaves {real} of {self.batch_size} rows to "
                "the data, and COMBO needs some of the data's (for --rho-s model, the model's too)"
            )


@dataclass(frozen=True)
class MOBILEConfig(ModelBasedConfig, KitConfig):
    """MOBILE: model-Bellman inconsistency penalised offline RL. ICML 2023."""

    n_elites: Annotated[int, Between(2, 1000)] = 5
    """Members used in rollouts, the best on held-out data; one alone cannot disagree."""
    penalty_coef: Weight = 1.5
    """Weight of the spread of the members' Bellman targets."""
    num_q_ensemble: Few = 2
    """Critics whose smallest value counts."""
    num_samples: Few = 10
    """Next states sampled per member for the penalty."""
    deterministic_backup: bool = True
    """Leave the entropy out of the backup."""
    max_q_backup: bool = False
    """Back up the largest of ten sampled actions' values."""
    norm_reward: bool = False
    """Standardise the data's rewards."""
    clamp_targets: bool | None = None
    """Clamp Bellman targets at zero from below, as published; None follows --compat."""


@dataclass(frozen=True)
class CountMORLConfig(ModelBasedConfig):
    """Count-MORL: a penalty from pseudo-counts of hashed transitions. arXiv 2307.11352."""

    penalty_coef: Weight = 1.0
    """Weight of the penalty 1 / sqrt(count)."""
    count_mode: Literal["UC", "AVG", "LC"] = "UC"
    """Which end of the members' counts is used: upper, mean or lower."""
    count_coef: Weight = 0.5
    """Standard deviations between the mean and that end."""
    num_bits: Annotated[int, Between(1, 62)] = 50
    """Bits of the transitions' hash code."""
    coder_lr: Rate = 1e-3
    """Learning rate of the auto-encoder whose code is the hash."""
    decoder_out: Literal["linear", "swish"] = "linear"
    """Decoder's last layer; swish is the released code's, which cannot reach its targets."""

    def check(self) -> None:
        """Raise a UserError for values that do not fit together."""
        super().check()
        if len(self.dynamics_hidden_dims) < 2:
            raise UserError(
                f"--dynamics-hidden-dims is {self.dynamics_hidden_dims}: give two widths or more, "
                "the second is the coder's"
            )


ALGORITHMS: dict[str, type[RunConfig]] = {
    "romi": ROMIConfig,
    "rambo": RAMBOConfig,
    "mopo": MOPOConfig,
    "combo": COMBOConfig,
    "mobile": MOBILEConfig,
    "count_morl": CountMORLConfig,
    "cql": CQLConfig,
    "iql": IQLConfig,
    "edac": EDACConfig,
    "td3bc": TD3BCConfig,
    "mcq": MCQConfig,
    "bc": BCConfig,
}
