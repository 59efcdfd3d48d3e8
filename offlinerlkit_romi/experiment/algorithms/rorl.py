"""RORL: what it can be told, and how it is put together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from offlinerlkit_romi.experiment.config import SoftConfig
from offlinerlkit_romi.experiment.limits import Between, Few, Share, Weight

if TYPE_CHECKING:
    from offlinerlkit_romi.experiment.build import Parts


@dataclass(frozen=True)
class RORLConfig(SoftConfig):
    """RORL: SAC-N, smooth and pessimistic around the data's states. arXiv 2206.02829."""

    num_critics: Annotated[int, Between(2, 1000)] = 10
    """Critics in the ensemble; their least value counts."""
    n_perturbed: Few = 20
    """Perturbed states around each of a batch's."""
    eps_policy: Weight = 0.005
    """Half-width of the box in which the policy must not change, in standard deviations of the
    data; 0 leaves the term out."""
    beta_policy: Weight = 0.1
    """Weight of the policy's smoothness."""
    eps_q: Weight = 0.005
    """Half-width of the box in which values must not change; 0 leaves the term out."""
    beta_q: Weight = 1e-4
    """Weight of the values' smoothness: the dearest term and the least important."""
    tau_q: Share = 0.2
    """Share by which a fall of a value counts in it; a rise counts for the rest."""
    eps_ood: Weight = 0.01
    """Half-width of the box in which values are pulled down; 0 means at the data's states."""
    beta_ood: Weight = 0.5
    """Weight of this pessimism."""
    lambda_ood: Weight = 1.0
    """How many of the critics' deviations values are pulled down by; 0 leaves the term out."""
    lambda_ood_min: Weight = 0.5
    """What that number falls to."""
    lambda_ood_decay: Weight = 1e-6
    """What it loses per policy update."""
    noise: Literal["shared", "per_row"] = "shared"
    """One set of perturbations for all rows of a batch, or a set for each row."""
    release: bool = True
    """Compute as the authors' code: all losses before any step, a temperature without bound; else
    as EDAC here."""

    @property
    def standardises(self) -> bool:
        """The networks see standardised observations: boxes are in their units."""
        return True

    @property
    def rows_at_once(self) -> int:
        """Rows of the largest pass through a network: every critic's of every perturbed state."""
        return self.batch_size * self.n_perturbed * self.num_critics

    def build(self, parts: Parts) -> Any:
        """The policy with all it is made of."""
        soft, critics = parts.soft(), parts.critic_ensemble(self.num_critics)
        # the authors' start, whose last layers of the critics are EDAC's
        if not self.actor:  # one of the user's own starts as it likes
            parts.start_uniform("actor", soft["actor"].backbone)
            parts.start_uniform("heads", soft["actor"].dist_net, within=1e-3)
        if not self.critic:
            parts.start_uniform("critics", critics.model[:-1])
        return parts.policy(
            "RORLPolicy",
            critics=critics,
            critics_optim=parts.adam(critics, self.critic_lr),
            tau=self.tau,
            gamma=self.gamma,
            n_perturbed=self.n_perturbed,
            eps_policy=self.eps_policy,
            beta_policy=self.beta_policy,
            eps_q=self.eps_q,
            beta_q=self.beta_q,
            tau_q=self.tau_q,
            eps_ood=self.eps_ood,
            beta_ood=self.beta_ood,
            lambda_ood=self.lambda_ood,
            lambda_ood_min=self.lambda_ood_min,
            lambda_ood_decay=self.lambda_ood_decay,
            noise=self.noise,
            release=self.release,
            **soft,
        )
