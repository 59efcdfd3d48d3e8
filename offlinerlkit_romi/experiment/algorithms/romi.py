"""ROMI: what it can be told, and how it is put together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.experiment.limits import BIG, Between, Few, Own, Rate, Weight, Widths, rising
from offlinerlkit_romi.experiment.model_config import AdversarialConfig

if TYPE_CHECKING:
    from offlinerlkit_romi.experiment.build import Parts


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
    weighting_net: Own = ""
    """A weighting network of your own: module:function of (S, A) that returns it."""
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
        if self.variant == "release" and self.adv_batch_size % 4:
            raise UserError(
                f"--adv-batch-size is {self.adv_batch_size}: the release variant splits it into 4 "
                "groups, give a multiple of 4"
            )

    def build(self, parts: Parts) -> Any:
        """The policy with all it is made of."""
        dynamics = parts.dynamics("WeightedEnsembleDynamics")
        weighting_net = parts.weighting_net()
        return parts.policy(
            "ROMIPolicy",
            dynamics,
            weighting_net=weighting_net,
            dynamics_adv_optim=parts.inner_optimizer(dynamics),
            weighting_optim=parts.adam(weighting_net, self.weight_lr),
            xi=self.xi,
            num_perturbations=self.num_perturbations,
            variant=self.variant,
            uncertainty_set=self.uncertainty_set,
            preconditioner=self.preconditioner,
            reward_likelihood=self.reward_likelihood,
            **parts.sac(),
            **parts.adversary(),
        )
