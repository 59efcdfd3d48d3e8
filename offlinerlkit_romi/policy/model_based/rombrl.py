r"""ROMBRL: MOBILE whose model answers the policy, within a budget of its own divergence.

Paper: Chen, Xu, Venugopal, Schneider, "Policy-Driven World Model Adaptation for Robust Offline
Model-based RL", ICML 2026, arXiv 2505.13709. The policy theta (leader) and the ensemble phi
(follower) play

    max_theta min_phi J(theta, phi)   s.t.   E_data KL( P_bar || P_phi ) <= eps,

P_bar the ensemble as it was pre-trained. Every so many steps of MOBILE a round draws trajectories
in the present model, moves the multiplier lambda, then the leader, then the follower. The leader
ascends (docs/algorithms/rombrl.md says what each of them solves)

    plain        grad_theta J                             (Eq. 7)
    stackelberg  grad_theta J - J_tp A^-1 grad_phi J      (Eq. 8, lambda as given)
    kkt          grad_theta J - J_tp H grad_phi J         (Eq. 9, within the budget)

Own choices, among them what differs from the released code: the follower is clipped on the side
that bounds it, lambda moves multiplicatively, the divergence is in closed form, the curvature is
damped by its eigenvalues, and the correction is rescaled to the leader's units and capped.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from typing_extensions import Unpack

from offlinerlkit_romi.bilevel import dot, norm_of
from offlinerlkit_romi.buffer import ReplayBuffer
from offlinerlkit_romi.dynamics import EnsembleDynamics
from offlinerlkit_romi.dynamics.losses import gaussian_kl, gaussian_log_prob, supervised_loss
from offlinerlkit_romi.dynamics.prediction_error import Segments, elite_errors
from offlinerlkit_romi.dynamics.row_scores import RowScores, member_log_prob, members_predict
from offlinerlkit_romi.engine import (
    Counts,
    Engine,
    MetricMeans,
    Steps,
    apply_gradients,
    frozen_copy,
)
from offlinerlkit_romi.policy.base_policy import Batch, Metrics
from offlinerlkit_romi.policy.model_based.leader_follower import (
    Game,
    Stakes,
    answer,
    move_multiplier,
)
from offlinerlkit_romi.policy.model_based.mobile import MOBILEOptions, MOBILEPolicy
from offlinerlkit_romi.policy.model_based.on_policy import (
    TINY,
    adversarial_loss,
    in_reach,
    judged,
    leader_loss,
    trajectories,
)
from offlinerlkit_romi.policy.model_based.rambo import LOGVAR_LOSS_COEF
from offlinerlkit_romi.policy.soft_policy import Alpha

LARGEST_GRADIENT = 1.0  # norm of the follower's
# the released code's names for the same
RELEASE_NAMES = {
    "follower/loss": "dyn_update/dyn_all_loss",
    "follower/anchor": "dyn_update/sl_loss",
    "follower/adv": "dyn_update/dyn_adv_loss",
    "leader/mask_share": "actor_update/grad_mask_ratio",
    "leader/j": "actor_update/adv_loss",
    "leader/grad_norm": "actor_update/J_norm",
    "leader/correction_norm": "actor_update/H_norm",
    "leader/total_norm": "actor_update/tot_dev_norm",
}


class ROMBRLPolicy(MOBILEPolicy):
    """MOBILE with a leader's and a follower's updates between policy epochs.

    Takes what `MOBILEPolicy` takes, what stands behind its `alpha` by keyword, and

    Args:
        dynamics_adv_optim: the follower's optimiser.
        leader_optim: the leader's; none means `actor_optim`, as in the released code.
        game: how they play.
        mobile: see `MOBILEPolicy`; `compat="kit"` brings the released code's names of metrics too.

    Raises:
        ValueError: unknown `compat`, or a single elite.
    """

    _multiplier: torch.Tensor
    _rounds_at_bound: torch.Tensor

    def __init__(
        self,
        dynamics: EnsembleDynamics,
        actor: nn.Module,
        critics: nn.ModuleList,
        actor_optim: torch.optim.Optimizer,
        critics_optim: torch.optim.Optimizer,
        dynamics_adv_optim: torch.optim.Optimizer,
        leader_optim: torch.optim.Optimizer | None = None,
        tau: float = 0.005,
        gamma: float = 0.99,
        alpha: Alpha = 0.2,
        *,
        game: Game | None = None,
        **mobile: Unpack[MOBILEOptions],
    ) -> None:
        nets, optims = (dynamics, actor, critics), (actor_optim, critics_optim)
        super().__init__(*nets, *optims, tau, gamma, alpha, **mobile)
        self._game = game = game or Game()
        self._dynamics_adv_optim = dynamics_adv_optim
        self.leader_optim = actor_optim if leader_optim is None else leader_optim
        # in a dict: the weights of a child would lie in every saved policy
        self._fixed = {"reference": frozen_copy(dynamics.model)}
        for name, value in (("_multiplier", game.lambda_init), ("_rounds_at_bound", 0.0)):
            state = torch.full((), value, device=self.tensor_device)
            self.register_buffer(name, state, persistent=False)
        self._done = Counts()
        self.engine = Engine()
        self._means = MetricMeans()
        self._cursor = torch.zeros((), dtype=torch.int64, device=self.tensor_device)
        self._rows: dict[str, torch.Tensor] = {}  # what the follower learns from, in place
        self._follower_steps: tuple[ReplayBuffer, Steps] | None = None

    def training_state(self) -> dict[str, Any]:
        """Everything that training mutates, by name."""
        own = {
            "dynamics_adv_optim": self._dynamics_adv_optim,
            "multiplier": self._multiplier,
            "rounds_at_bound": self._rounds_at_bound,
            "rounds": self._done,
        }
        if self.leader_optim is not self.actor_optim:
            own["leader_optim"] = self.leader_optim
        return super().training_state() | own | self._fixed

    def update(self, batch: dict[str, Batch]) -> Metrics:
        """MOBILE's, with the model rows' successors drawn from the present model."""
        fake = batch["fake"]
        if self._game.resimulate and len(fake["rewards"]):
            obs, action = fake["observations"], fake["actions"]
            next_obs, reward, terminal, _ = self.dynamics.sample_step(obs, action)
            told = {"next_observations": next_obs, "rewards": reward}
            batch = batch | {"fake": {**fake, **told, "terminals": terminal.to(reward)}}
        return super().update(batch)

    def update_dynamics(self, real_buffer: ReplayBuffer) -> dict[str, float]:
        """One round: trajectories, multiplier, leader, follower; returns mean metrics."""
        if not self._done["rounds"]:  # the model is still as it was pre-trained
            self._fixed["reference"].load_state_dict(self.dynamics.model.state_dict())
        self._done["rounds"] += 1
        data, seen = self.play(real_buffer)
        self._means.add(seen)
        self._lead(data, self._stakes(data, real_buffer), real_buffer)
        self._follow(data, real_buffer)
        metrics = self._means.result()
        if self._like_kit:
            metrics |= {RELEASE_NAMES[k]: v for k, v in metrics.items() if k in RELEASE_NAMES}
        return metrics

    def held_out(self, segments: Segments) -> Metrics:
        """What the adaptation costs on the data: the elites' likelihood and error, per row."""
        told = elite_errors(self.dynamics, segments)
        return {f"model/holdout_{name}": value for name, value in told.items()}

    def play(self, real_buffer: ReplayBuffer) -> tuple[dict[str, torch.Tensor], Metrics]:
        """A round's trajectories in the present model, see `judged`, and what was seen in them."""
        played = trajectories(self, real_buffer, self._game)
        return judged(*played, self._gamma, self._game)

    def _order(self, count: int, real_buffer: ReplayBuffer) -> torch.Tensor:
        """A permutation of so many, (count,), by the draws of the data."""
        source = getattr(real_buffer, "generator", None)
        return torch.randperm(count, generator=source, device=self.tensor_device)

    # the constraint and its multiplier

    def _stakes(self, data: Batch, real_buffer: ReplayBuffer) -> Stakes | None:
        """Move the multiplier; the gradients that corrections need, where there are any."""
        game, params = self._game, self._follower_params
        batch = real_buffer.sample(game.kl_rows)
        inputs = self.dynamics.inputs(batch["observations"], batch["actions"])
        with torch.set_grad_enabled(game.constrained):
            rows = self.divergence(inputs, elites=True)
            gap = rows.sum(-1).mean() - game.eps
        constraint = [torch.autograd.grad(gap, params)] if game.constrained else []
        self._move_multiplier(gap.detach(), rows.detach())
        if not game.corrects:
            return None
        wanted = torch.autograd.grad(self._model_objective(data), params)
        products = [dot(b, x).double() for b in constraint for x in (wanted, b)]
        settled = gap.detach().double(), self._multiplier.double()
        return Stakes([wanted, *constraint], products, *settled)

    def _model_objective(self, data: Batch) -> torch.Tensor:
        """Mean of push * l over the first h steps of all trajectories, with graph to the model."""
        model, horizon = self.dynamics.model, self._game.model_horizon
        names = ("inputs", "place", "sample", "model_push")
        inputs, place, sample, push = (data[x][:horizon].flatten(0, 1) for x in names)
        log_prob = member_log_prob(model, inputs, model.elites[place], sample)
        return (push.squeeze(-1) * log_prob).mean()

    def _move_multiplier(self, gap: torch.Tensor, rows: torch.Tensor) -> None:
        state = self._multiplier, self._rounds_at_bound
        self._means.add(move_multiplier(*state, gap, rows, self._game))

    def divergence(self, inputs: torch.Tensor, elites: bool = False) -> torch.Tensor:
        """KL of the pre-trained ensemble to the present one, member by member, (E or M, B, D)."""
        model = self.dynamics.model

        def predict(of: Any) -> Any:
            return members_predict(of, model.elites, inputs) if elites else of(inputs)

        with torch.no_grad():
            before = predict(self._fixed["reference"])
        return gaussian_kl(*before, *predict(model))

    # the leader

    def _lead(self, data: Batch, stakes: Stakes | None, real_buffer: ReplayBuffer) -> None:
        game = self._game
        for epoch in range(game.leader_epochs):
            order = self._order(game.trajectories, real_buffer)
            due = stakes if epoch % game.correction_every == 0 else None
            for rows in order.split(game.leader_batch):
                self._means.add(self._leader_step(data, rows, due, real_buffer))

    def _leader_step(
        self, data: Batch, rows: torch.Tensor, stakes: Stakes | None, real_buffer: ReplayBuffer
    ) -> Metrics:
        """One step on some trajectories, corrected for the follower's answer where it is due."""
        params = list(self.actor.parameters())
        log_prob, old, push = self._acts(data, rows)
        loss, mask = leader_loss(log_prob, old, push, self._game.clip_range)
        grads = torch.autograd.grad(loss, params)
        norm = norm_of(grads)
        metrics = {
            "leader/j": -loss.detach(),
            "leader/grad_norm": norm,
            "leader/mask_share": mask.mean(),
            "leader/kl_to_old": (old - log_prob.detach()).mean(),
        }
        if stakes is not None:
            correction, told = self._correction(data, stakes, real_buffer)
            size = norm_of(correction)
            share = (self._game.correction_cap * norm / (size + TINY)).clamp_max(1)
            metrics |= told | {
                "leader/correction_norm": size,
                "leader/cap_share": (share < 1).to(norm),
                # the loss is minus the objective
                "leader/cos_correction": -dot(grads, correction) / (norm * size + TINY),
            }
            grads = tuple(x + share * y for x, y in zip(grads, correction, strict=True))
        metrics["leader/total_norm"] = norm_of(grads)
        apply_gradients(self.leader_optim, params, grads)
        return metrics

    def _acts(
        self, data: Batch, rows: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Density of the recorded actions now and when drawn, and their push, (T, b, 1)."""
        # the density before the squashing, whose slope does not depend on the policy
        obs, raw = data["obs"][:, rows], data["raw_action"][:, rows]
        log_prob = self.actor(obs.flatten(0, 1)).gaussian_log_prob(raw.flatten(0, 1))
        pushes = data["log_prob"][:, rows], data["leader_push"][:, rows]
        return log_prob.view(*obs.shape[:2], 1), *pushes

    def _correction(
        self, data: Batch, stakes: Stakes, real_buffer: ReplayBuffer
    ) -> tuple[list[torch.Tensor], Metrics]:
        """J_tp q in the leader's units, q the follower's answer, from a fresh sub-sample."""
        game = self._game
        rows = self._order(game.trajectories, real_buffer)[: game.curvature_trajectories]
        # (h, m, .) -> (m, h, .)
        names = ("inputs", "sample", "place", "model_push", "episode")
        sampled = [data[x][: game.model_horizon, rows].transpose(0, 1) for x in names]
        weight, episode = (x.squeeze(-1).double() for x in sampled[3:])
        weight = weight / weight.numel()
        pairs = zip(sampled[:3], self._fisher_rows(real_buffer), strict=True)
        inputs, sample, place = (torch.cat([x.flatten(0, 1), y]) for x, y in pairs)
        model = self.dynamics.model
        scores = RowScores.of(model, inputs, model.elites[place], sample)
        changes, metrics = answer(scores, weight, episode, stakes, game)
        kappa = (weight * changes).sum(1).to(data["scale"])
        log_prob, old, push = self._acts(data, rows)
        mask = in_reach(log_prob, old, push, game.clip_range)
        surrogate = (kappa * (mask * log_prob).sum((0, 2))).sum()
        grads = torch.autograd.grad(surrogate, list(self.actor.parameters()))
        factor = game.correction_weight * data["scale"]
        return [factor * x for x in grads], metrics

    @torch.no_grad()
    def _fisher_rows(self, real_buffer: ReplayBuffer) -> tuple[torch.Tensor, ...]:
        """Inputs, samples and elites of M rows of the data: (M, S+A), (M, D), (M,)."""
        batch = real_buffer.sample(self._game.curvature_rows)
        inputs, target = self.dynamics.format_samples_for_training(batch)
        inputs = self.dynamics.scaler.transform_tensor(inputs)
        sample, _, place = self.dynamics.draw(inputs)
        return inputs, sample if self._game.fisher == "model" else target, place

    # the follower

    @property
    def _follower_params(self) -> list[torch.Tensor]:
        return [p for p in self.dynamics.model.parameters() if p.requires_grad]

    def _follow(self, data: Batch, real_buffer: ReplayBuffer) -> None:
        """Passes over the transitions in batches; the last one is filled up from the first."""
        self._hand_over(data)
        count, size = len(self._rows["push"]), self._game.follower_batch
        batches = -(-count // size)
        if self._follower_steps is None or self._follower_steps[0] is not real_buffer:
            steps = self.engine.steps(
                "the follower's step",
                lambda number: self._follower_updates(real_buffer, number),
                lambda: self._changed(real_buffer),
            )
            self._follower_steps = real_buffer, steps
        for _ in range(self._game.follower_epochs):
            order = self._order(count, real_buffer)
            whole = torch.arange(batches * size, device=order.device) % count
            torch.index_select(order, 0, whole, out=self._rows["order"])
            self._cursor.zero_()
            for portion in self.engine.portions(batches):
                self._follower_steps[1](portion)

    def _hand_over(self, data: Batch) -> None:
        """Put what the follower learns from where its steps look."""
        names = ("inputs", "sample", "place", "sample_log_prob", "model_push")
        flat = {x: data[x][: self._game.model_horizon].flatten(0, 1) for x in names}
        rows = {x.removeprefix("model_"): y for x, y in flat.items()}
        if self._rows:
            for name, value in rows.items():
                self._rows[name].copy_(value)
            return
        batches = -(-len(rows["push"]) // self._game.follower_batch)
        order = rows["place"].new_zeros(batches * self._game.follower_batch)
        self._rows = rows | {"order": order}

    def _changed(self, real_buffer: ReplayBuffer) -> dict[str, Any]:
        """What a follower's step changes."""
        state = self.training_state() | {"means": self._means, "cursor": self._cursor}
        draws = real_buffer.generator
        return state if draws is None else state | {"draws": draws}

    def _follower_updates(self, real_buffer: ReplayBuffer, number: int) -> None:
        for _ in range(number):
            self._means.add(self._follower_step(real_buffer))

    def _follower_step(self, real_buffer: ReplayBuffer) -> Metrics:
        """One step on the next batch of transitions and a batch of the data."""
        size, params = self._game.follower_batch, self._follower_params
        place = self._cursor * size + torch.arange(size, device=self._cursor.device)
        chosen = self._rows["order"].index_select(0, place)
        self._cursor.add_(1)
        rows = {x: y.index_select(0, chosen) for x, y in self._rows.items() if x != "order"}
        loss, told = self.follower_loss(rows, real_buffer.sample(size))
        grads = torch.autograd.grad(loss, params)
        norm = norm_of(grads)
        share = (LARGEST_GRADIENT / (norm + TINY)).clamp_max(1)
        apply_gradients(self._dynamics_adv_optim, params, [x * share for x in grads])
        metrics = {f"follower/{name}": x.detach() for name, x in told.items()}
        return metrics | {"follower/loss": loss.detach(), "follower/grad_norm": norm}

    def follower_loss(
        self, rows: Mapping[str, torch.Tensor], batch: Batch
    ) -> tuple[torch.Tensor, Metrics]:
        """The adversarial term and the anchor, weighed by the multiplier, a scalar with graph.

        Args:
            rows: `inputs` (B, S+A), `sample` (B, D), `place` (B,), `sample_log_prob` and `push`
                (B, 1) of transitions in the model.
            batch: transitions of the data.
        """
        game, model, multiplier = self._game, self.dynamics.model, self._multiplier
        predicted = members_predict(model, model.elites, rows["inputs"])
        log_probs = gaussian_log_prob(*predicted, rows["sample"])
        # (M, B) -> (B, 1): each row under its own elite
        log_prob = log_probs.gather(0, rows["place"].unsqueeze(0)).mT
        old, push = rows["sample_log_prob"], rows["push"] * game.adversary
        adv, ratio = adversarial_loss(log_prob, old, push, game.clip_range, game.follower_clip)
        inputs, target = self.dynamics.format_samples_for_training(batch)
        inputs = self.dynamics.scaler.transform_tensor(inputs)
        if game.anchor == "kl":
            anchor = self.divergence(inputs).sum(-1).mean()
            loss = (adv + multiplier * anchor) / (1 + multiplier)
        else:
            anchor = supervised_loss(model, inputs, target, LOGVAR_LOSS_COEF)
            loss = adv / multiplier + anchor
        outside = (ratio.detach() - 1).abs() > game.clip_range
        told = {"adv": adv, "anchor": anchor, "rho_mean": ratio.mean()}
        return loss, told | {"clip_share": outside.to(ratio).mean()}
