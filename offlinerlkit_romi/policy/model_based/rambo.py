"""RAMBO: MOPO without penalty, whose model is pushed against the policy.

Paper: Rigter et al., "RAMBO-RL: Robust Adversarial Model-Based Offline Reinforcement Learning",
arXiv 2204.12581, as in OfflineRL-Kit. Deviations, each for the better: the mixture likelihood stays
in log space, rows past a predicted terminal do not enter the adversarial loss, `adv_train_steps` is
obeyed, and behaviour cloning shuffles. `compat="kit"` undoes all four, and tests/upstream shows it
equal to the kit.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

import torch
from torch import nn
from typing_extensions import Unpack

from offlinerlkit_romi.buffer import ReplayBuffer
from offlinerlkit_romi.dynamics import EnsembleDynamics
from offlinerlkit_romi.dynamics.ensemble_dynamics import known_reward
from offlinerlkit_romi.dynamics.losses import gaussian_log_prob, mixture_log_prob, supervised_loss
from offlinerlkit_romi.engine import (
    Engine,
    MetricMeans,
    Steps,
    apply_gradients,
    make_adam,
    normal,
    read_weights,
    save_atomically,
)
from offlinerlkit_romi.modules.common import ArrayLike, as_input
from offlinerlkit_romi.policy.base_policy import Metrics, Ours, check_choice
from offlinerlkit_romi.policy.model_based.mopo import MOPOPolicy
from offlinerlkit_romi.policy.model_free.sac import min_q
from offlinerlkit_romi.policy.soft_policy import Alpha, act
from offlinerlkit_romi.utils.scaler import StandardScaler

# the factor of the log-variance bound term in the model updates; pre-training has its own
LOGVAR_LOSS_COEF = 0.001
PRETRAIN_FILE = "rambo_pretrain.pth"
KIT_ROUND = 1000  # the model update at which the kit breaks off a rollout


def adversarial_loss(
    log_prob: torch.Tensor, advantage: torch.Tensor, alive: torch.Tensor, reduction: str
) -> torch.Tensor:
    """Score-function loss; descending it makes successors of low value likelier.

    Args:
        log_prob: log-density of the sampled successor under the elites' mixture, (B, 1).
        advantage: standardised value advantage of the successor, (B, 1), a constant.
        alive: 1 for rows that count, (B, 1).
        reduction: `mean` (kit) or `sum` (original).
    """
    assert log_prob.shape == advantage.shape == alive.shape, (log_prob.shape, advantage.shape)
    total = (log_prob * advantage.detach() * alive).sum()
    return total if reduction == "sum" else total / alive.sum().clamp_min(1)


def standardise(x: torch.Tensor, alive: torch.Tensor) -> torch.Tensor:
    """(x - mean) / (std + 1e-6) over the rows that count, (B, 1); unbiased std (kit behaviour)."""
    count = alive.sum()
    mean = (x * alive).sum() / count.clamp_min(1)
    variance = ((x - mean).square() * alive).sum() / (count - 1).clamp_min(1)
    return (x - mean) / (variance.sqrt() + 1e-6)


def underflowing_mixture_log_prob(log_probs: torch.Tensor) -> torch.Tensor:
    """`mixture_log_prob` as the kit takes it, -inf below a log-density of about -745."""
    return log_probs.double().exp().mean(0).log().to(log_probs).unsqueeze(-1)


class RAMBOPolicy(MOPOPolicy):
    """MOPO with adversarial model updates between policy epochs.

    Takes what `MOPOPolicy` takes, and

    Args:
        dynamics_adv_optim: optimiser of the model updates.
        adv_weight: factor of the adversarial loss.
        adv_train_steps: model updates per call of `update_dynamics`, K.
        adv_rollout_batch_size: rows per model update.
        adv_rollout_length: steps after which the adversarial rollout starts from the dataset again.
        include_ent_in_adv: count the policy's entropy into the successor's value.
        scaler: standardises observations in `select_action`; training sees standardised ones
            already.
        device: kept for the kit's signature; tensors live where the networks do.
        adv_reduction: `mean` (kit) or `sum` (original code) over the batch.
        ours: see `Ours`; `compat="kit"` for its likelihood by exp and log, rollouts beyond
            terminals, whole rollouts per call, and cloning in the data's order.

    Raises:
        ValueError: unknown `adv_reduction` or `compat`.
    """

    dynamics: EnsembleDynamics

    def __init__(
        self,
        dynamics: EnsembleDynamics,
        actor: nn.Module,
        critic1: nn.Module,
        critic2: nn.Module,
        actor_optim: torch.optim.Optimizer,
        critic1_optim: torch.optim.Optimizer,
        critic2_optim: torch.optim.Optimizer,
        dynamics_adv_optim: torch.optim.Optimizer,
        tau: float = 0.005,
        gamma: float = 0.99,
        alpha: Alpha = 0.2,
        adv_weight: float = 0.0,
        adv_train_steps: int = 1000,
        adv_rollout_batch_size: int = 256,
        adv_rollout_length: int = 5,
        include_ent_in_adv: bool = False,
        scaler: StandardScaler | None = None,
        device: str | torch.device = "cpu",
        *,
        adv_reduction: str = "mean",
        **ours: Unpack[Ours],
    ) -> None:
        check_choice("adv_reduction", adv_reduction, ("mean", "sum"))
        nets, optims = (actor, critic1, critic2), (actor_optim, critic1_optim, critic2_optim)
        super().__init__(dynamics, *nets, *optims, tau, gamma, alpha, **ours)
        self._dynamics_adv_optim = dynamics_adv_optim
        self._adv_weight, self._adv_reduction = adv_weight, adv_reduction
        self._adv_train_steps = adv_train_steps
        self._adv_rollout_batch_size = adv_rollout_batch_size
        self._adv_rollout_length = adv_rollout_length
        self._include_ent_in_adv = include_ent_in_adv
        self.scaler = scaler
        self.engine = Engine()
        self._means = MetricMeans()  # of model updates
        self._model_steps: tuple[ReplayBuffer, Steps] | None = None

    def training_state(self) -> dict[str, Any]:
        """Everything that training mutates, by name."""
        return super().training_state() | {"dynamics_adv_optim": self._dynamics_adv_optim}

    def update_dynamics(self, real_buffer: ReplayBuffer) -> dict[str, float]:
        """K model updates; returns their mean metrics."""
        if self._model_steps is None or self._model_steps[0] is not real_buffer:
            steps = self.engine.steps(
                "the model update",
                self._updates_of(real_buffer),
                lambda: self._updated(real_buffer),
            )
            self._model_steps = real_buffer, steps
        update = self._model_steps[1]
        for count in self._rounds():
            portions = self.engine.portions(count, self._updates_that_belong_together)
            for i, portion in enumerate(portions):
                update(portion, i == 0)
        return self._means.result()

    @property
    def _updates_that_belong_together(self) -> int:
        """After so many model updates nothing but the networks is carried on to the next."""
        return self._adv_rollout_length

    def _updates_of(self, real_buffer: ReplayBuffer) -> Callable[[int, bool], None]:
        def update(count: int, first: bool) -> None:
            """Some model updates, the round's first or not, their metrics added up."""
            for metrics in islice(self.model_updates(real_buffer, first=first), count):
                self._means.add(metrics)

        return update

    def _updated(self, real_buffer: ReplayBuffer) -> dict[str, Any]:
        """What a model update changes."""
        state = self.training_state() | {"model_means": self._means}
        draws = real_buffer.generator
        return state if draws is None else state | {"draws": draws}

    def _rounds(self) -> tuple[int, ...]:
        """K updates; the kit's are whole rollouts, except that one is broken off at 1000."""
        steps, length = self._adv_train_steps, self._adv_rollout_length
        if not self._like_kit:
            return (steps,)
        first = min(KIT_ROUND, -(-steps // length) * length)
        return first, max(0, -(-(steps - first) // length) * length)

    def model_updates(self, real_buffer: ReplayBuffer, *, first: bool = True) -> Iterator[Metrics]:
        """Endless model updates, one metrics dict each; all rounds begin alike."""
        size = self._adv_rollout_batch_size
        while True:
            obs = real_buffer.sample(size)["observations"]
            alive = torch.ones_like(obs[:, :1])
            for _ in range(self._adv_rollout_length):
                metrics, obs, alive = self._model_update(obs, alive, real_buffer.sample(size))
                yield metrics

    def _model_update(
        self, obs: torch.Tensor, alive: torch.Tensor, batch: Mapping[str, torch.Tensor]
    ) -> tuple[Metrics, torch.Tensor, torch.Tensor]:
        """One step on adversarial plus supervised loss; also the next states and who is alive."""
        action = self.choose_action(obs)
        adv_loss, info, next_obs, terminal = self._adversarial_step(obs, action, alive)
        inputs, target = self.dynamics.format_samples_for_training(batch)
        inputs = self.dynamics.scaler.transform_tensor(inputs)
        sl_loss = supervised_loss(self.dynamics.model, inputs, target, LOGVAR_LOSS_COEF)
        loss = self._adv_weight * adv_loss + sl_loss
        params = [p for p in self.dynamics.model.parameters() if p.requires_grad]
        apply_gradients(self._dynamics_adv_optim, params, torch.autograd.grad(loss, params))
        losses = {"all_loss": loss, "sl_loss": sl_loss, "adv_loss": adv_loss, **info}
        metrics = {f"adv_dynamics_update/{name}": x.detach() for name, x in losses.items()}
        survives = alive if self._like_kit else alive * (1 - terminal)
        # a dead row stays where it was: rolled on it could overflow, and a masked inf is a nan
        return metrics, torch.where(survives > 0, next_obs, obs), survives

    def _adversarial_step(
        self, obs: torch.Tensor, action: torch.Tensor, alive: torch.Tensor
    ) -> tuple[torch.Tensor, Metrics, torch.Tensor, torch.Tensor]:
        """Sample a successor under a random elite and weigh its likelihood by its advantage."""
        model = self.dynamics.model
        # the other members have no part in it; nor has a gradient that counts for nothing
        inputs = self.dynamics.inputs(obs, action).expand(len(model.elites), -1, -1)
        with torch.set_grad_enabled(self._adv_weight != 0):
            mean, logvar = model.forward_members(inputs, model.elites)
        with torch.no_grad():
            sample = self._sample_elite(mean, logvar)
            next_obs = obs + sample[:, :-1]
            reward = known_reward(self.dynamics, obs, action, next_obs, sample[:, -1:])
            terminal = torch.as_tensor(self.dynamics.terminal_fn(obs, action, next_obs)).to(reward)
            value = reward + self._gamma * (1 - terminal) * self._next_value(next_obs)
            advantage = standardise(value - min_q(self.critics, obs, action), alive)
        mixture = underflowing_mixture_log_prob if self._like_kit else mixture_log_prob
        log_prob = mixture(gaussian_log_prob(mean, logvar, sample))
        loss = adversarial_loss(log_prob, advantage, alive, self._adv_reduction)
        info = {
            "adv_advantage": (advantage * alive).mean(),
            "adv_log_prob": (log_prob.detach() * alive).sum() / alive.sum().clamp_min(1),
        }
        return loss, info, next_obs, terminal

    def _sample_elite(self, mean: torch.Tensor, logvar: torch.Tensor) -> torch.Tensor:
        """(M, B, D), (M, B, D) -> a sample under a random member per row, (B, D)."""
        rows = torch.arange(mean.shape[1], device=mean.device)
        member = torch.randint(
            len(mean), rows.shape, device=mean.device, generator=self.dynamics.generator
        )
        chosen = mean[member, rows]
        noise = normal(chosen.shape, mean, self.dynamics.generator)
        return chosen + torch.exp(0.5 * logvar[member, rows]) * noise

    def _next_value(self, next_obs: torch.Tensor) -> torch.Tensor:
        """min_c Q_c(s', mode), minus alpha log pi if entropy is counted, (B, 1)."""
        next_action, log_prob = act(self.actor, next_obs, None)
        value = min_q(self.critics, next_obs, next_action)
        return value - self._alpha * log_prob if self._include_ent_in_adv else value

    def pretrain(
        self,
        data: Mapping[str, ArrayLike],
        n_epoch: int,
        batch_size: int,
        lr: float,
        logger: Any | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> float:
        """Behaviour cloning: mean over B and A of (sampled action - a)^2, shuffled every epoch.

        Args:
            data: transitions in the kit's keys, observations as the policy sees them.
            n_epoch: passes over the data.
            batch_size: rows per step; the last, partial batch counts too (not so in the kit).
            lr: rate of a fresh Adam.
            logger: the kit's logger; the policy is saved as `rambo_pretrain.pth` in its
                `model_dir`.
            check: called after every step; may raise to leave.

        Returns:
            Mean loss of the last epoch; nan without an epoch.
        """
        obs, action = (as_input(data[k], self.actor) for k in ("observations", "actions"))
        params = list(self.actor.parameters())
        optim = make_adam(params, lr)
        loss_mean = float("nan")
        for epoch in range(n_epoch):
            means = MetricMeans()
            for rows in self._cloning_order(len(obs), batch_size, obs.device):
                dist = self.actor(obs[rows])
                loss = (dist.rsample(dist.noise(self.generator))[0] - action[rows]).square().mean()
                apply_gradients(optim, params, torch.autograd.grad(loss, params))
                means.add({"loss": loss})
                check()
            loss_mean = means.result()["loss"]
            if logger is not None:
                logger.log(f"behaviour cloning epoch {epoch + 1}/{n_epoch}: loss {loss_mean:.4f}")
        if logger is not None:
            save_atomically(self.state_dict(), os.path.join(logger.model_dir, PRETRAIN_FILE))
        return loss_mean

    def _cloning_order(
        self, n: int, batch_size: int, device: torch.device
    ) -> tuple[torch.Tensor, ...]:
        """Row numbers of an epoch's batches: shuffled; the kit's in order, whole ones only."""
        if self._like_kit:
            return torch.arange(n // batch_size * batch_size, device=device).split(batch_size)
        return torch.randperm(n, generator=self.generator, device=device).split(batch_size)

    def load(self, path: str) -> None:
        """Read `rambo_pretrain.pth` from a folder.

        Raises:
            UserError: there is none, or one of other networks.
        """
        file = os.path.join(path, PRETRAIN_FILE)
        self.load_state_dict(read_weights(self, file, self.tensor_device))
