"""Watches training for divergence on the device; the host reads the outcome once per epoch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from offlinerlkit_romi.engine import Counts

# Q may overshoot while targets still chase the critics: healthy runs were seen below twice the
# largest possible value, diverged ones pass any bound
Q_MARGIN = 5.0
HORIZON_AT_MOST = 1000.0  # steps; gamma = 1 has no horizon of its own
# model states further outside the data's box than its width, and the share of them that is too many
RANGE_MARGIN, OUTSIDE_SHARE = 1.0, 0.5
LEAST_EXTENT = 0.1  # of a column of the data, against the widest one
GRADIENT_FACTOR, GRADIENT_ALWAYS = 1e4, 1e12
GRADIENT_EVERY = 8  # optimiser steps; a norm at each would cost 2 % of a small network's update
STUCK_SHARE, STUCK_EPOCHS = 0.999, 10
OUT_OF_RANGE = "rollout_info/out_of_range"
AT_BOUNDS = "romi/weight_at_bounds"
# most that a metric may be; a budget whose multiplier stays at its bound is not kept
LIMITS = {OUT_OF_RANGE: OUTSIDE_SHARE, "constraint/rounds_at_bound": 49.5}
_UNLIMITED = torch.finfo(torch.float32).max


@dataclass(frozen=True)
class Finding:
    """Something that healthy training does not do.

    Attributes:
        quantity: Metric, gradient or network.
        kind: "not finite", "out of bounds" or "stuck".
        since_step: First policy step at which it was seen.
        value: Its largest magnitude this epoch.
        limit: What it should stay below.
        fatal: Whether training on makes no sense; otherwise it is only told.
    """

    quantity: str
    kind: str
    since_step: int
    value: float
    limit: float
    fatal: bool = True


def largest_value(rewards: torch.Tensor, gamma: float, extra: float = 0.0) -> float:
    """Most that |Q| can be: every step of the horizon brings the data's largest |reward|.

    Args:
        rewards: the data's (n, 1).
        gamma: discount per step.
        extra: what entropy bonus and penalties can add per step.
    """
    horizon = HORIZON_AT_MOST if gamma >= 1 else min(1 / (1 - gamma), HORIZON_AT_MOST)
    return (float(rewards.abs().max()) + extra) * horizon


class Sentinel:
    """Remembers, for every metric, the first step at which it left its bounds.

    Per update this costs five operations on a vector of the metrics, and nothing waits for them.
    What it remembers stays in place from the first look on, so that a captured graph can look too.

    Args:
        state: The policy's `training_state()`: its networks and optimisers are looked at.
        largest_q: Most that |Q| can be; the limit is `Q_MARGIN` times that. None for no limit.
        data: The data's states (n, S), whose box model states should not leave by far.

    Attributes:
        counts: Steps of each optimiser so far.
        gradient_every: Optimiser steps from one look at the gradient to the next.
        largest_q: As given.
        gradients: Largest norm of each optimiser's gradient that was looked at in the epoch checked
            last, by `gradient/<name>`: of every step where steps are captured, else of every
            eighth. None where none was looked at.
    """

    def __init__(
        self,
        state: Mapping[str, Any],
        largest_q: float | None = None,
        data: torch.Tensor | None = None,
    ) -> None:
        self._modules = {name: x for name, x in state.items() if isinstance(x, nn.Module)}
        self.largest_q = largest_q
        self._q_limit = _UNLIMITED if largest_q is None else Q_MARGIN * largest_q
        self._box: tuple[torch.Tensor, torch.Tensor] | None = None
        if data is not None and len(data):
            low, high = data.amin(0), data.amax(0)
            extent = high - low
            # a column that hardly varies in the data may vary a little in the model
            width = RANGE_MARGIN * extent.clamp_min(float(extent.max()) * LEAST_EXTENT)
            self._box = (low - width, high + width)
        self._watches: dict[tuple[str, ...], _Watch] = {}
        self._norms: dict[str, torch.Tensor] = {}
        self.counts = Counts()
        self.gradients: dict[str, float] = {}
        self.gradient_every = GRADIENT_EVERY
        self._usual: dict[str, float] = {}  # log of the usual largest gradient norm of an epoch
        self._stuck = 0
        self._optimisers = [n for n, x in state.items() if isinstance(x, torch.optim.Optimizer)]
        self._hooks = [
            state[name].register_step_pre_hook(partial(self._see_gradient, name))
            for name in self._optimisers
        ]

    def looks(self, updates: int) -> tuple[int, ...]:
        """At which of so many updates it looks at each optimiser's gradient, a number of each."""
        every, counts = self.gradient_every, self.counts
        return tuple(min(-counts[name] % every, updates) for name in self._optimisers)

    def close(self) -> None:
        """Stop looking at gradients."""
        for hook in self._hooks:
            hook.remove()

    def watch(self, metrics: Mapping[str, torch.Tensor | float], step: int | torch.Tensor) -> None:
        """Look at the metrics of the policy step `step`, counted from 1; a tensor () on CUDA."""
        if not metrics:
            return
        names = tuple(metrics)
        values = _stack(metrics.values())
        if names not in self._watches:
            self._watches[names] = _Watch([self._limit(name) for name in names], values.device)
        self._watches[names].see(values, step)

    def outside(
        self, next_obs: torch.Tensor, mask: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        """Share of model states (n, S) far outside the data's box, as a metric.

        Args:
            next_obs: the states.
            mask: which of them count, (n, 1) bool; none means all.
        """
        if self._box is None:
            return {}
        low, high = self._box
        out = ((next_obs < low) | (next_obs > high)).any(1)
        if mask is None:
            return {OUT_OF_RANGE: out.float().mean()}
        return {OUT_OF_RANGE: (out & mask.squeeze(1)).sum() / mask.sum()}

    def check(self, step: int, row: Mapping[str, float]) -> list[Finding]:
        """What this epoch, which ends with `step`, brought to light; starts afresh.

        Args:
            step: Policy steps done.
            row: The epoch's mean metrics.
        """
        found = [finding for watch in self._findings() for finding in watch]
        found += self._check_gradients(step) + self._check_weights(step)
        found += self._check_stuck(step, row)
        self._start_afresh()
        return sorted(found, key=lambda finding: finding.since_step)

    def non_finite_networks(self) -> list[str]:
        """Names of the networks that hold a NaN or an infinity; one transfer."""
        norms = {name: _norm(_floating(module)) for name, module in self._modules.items()}
        values = _stack(norms.values()).tolist() if norms else []
        return [name for name, x in zip(norms, values, strict=True) if not math.isfinite(x)]

    def state_dict(self) -> dict[str, Any]:
        """What the next check depends on, for a checkpoint."""
        watches = [
            (list(names), watch.first, watch.worst) for names, watch in self._watches.items()
        ]
        return {
            "watches": watches,
            "norms": dict(self._norms),
            "counts": self.counts.state_dict(),
            "usual": dict(self._usual),
            "stuck": self._stuck,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken."""
        self._start_afresh()
        for names, first, worst in state["watches"]:
            watch = self._watches.get(tuple(names))
            if watch is None:
                limits = [self._limit(name) for name in names]
                watch = self._watches[tuple(names)] = _Watch(limits, first.device)
            watch.first.copy_(first)
            watch.worst.copy_(worst)
        for name, norm in state["norms"].items():
            if name in self._norms:
                self._norms[name].copy_(norm)
            else:
                self._norms[name] = norm.clone()
        self.counts.load_state_dict(state["counts"])
        self._usual, self._stuck = dict(state["usual"]), int(state["stuck"])

    def _start_afresh(self) -> None:
        for watch in self._watches.values():
            watch.clear()
        for norm in self._norms.values():
            norm.zero_()

    def _limit(self, name: str) -> float:
        if name.startswith("q/"):
            return min(self._q_limit, _UNLIMITED)
        return LIMITS.get(name, _UNLIMITED)

    def _findings(self) -> Iterable[list[Finding]]:
        return (watch.findings(names) for names, watch in self._watches.items())

    @torch.no_grad()
    def _see_gradient(self, name: str, optim: torch.optim.Optimizer, *_: Any) -> None:
        self.counts[name] += 1
        if (self.counts[name] - 1) % self.gradient_every:
            return
        grads = [p.grad for g in optim.param_groups for p in g["params"] if p.grad is not None]
        norm = _norm(grads)
        largest = self._norms.get(name)
        if largest is None:
            self._norms[name] = norm.clone()
        elif largest.device != norm.device:  # read from a checkpoint
            self._norms[name] = torch.maximum(largest.to(norm.device), norm)
        else:
            torch.maximum(largest, norm, out=largest)

    def _check_gradients(self, step: int) -> list[Finding]:
        found = []
        values = _stack(self._norms.values()).tolist() if self._norms else []
        norms = zip(self._norms, values, strict=True)
        self.gradients = {f"gradient/{name}": x for name, x in norms if x != 0}
        for name, value in zip(self._norms, values, strict=True):
            usual = self._usual.get(name)
            limit = GRADIENT_ALWAYS if usual is None else GRADIENT_FACTOR * math.exp(usual)
            if not math.isfinite(value) or value > limit:
                kind = "out of bounds" if math.isfinite(value) else "not finite"
                found.append(Finding(f"gradient/{name}", kind, step, value, limit))
            elif value > 0:
                now = math.log(value)
                self._usual[name] = now if usual is None else 0.9 * usual + 0.1 * now
        return found

    def _check_weights(self, step: int) -> list[Finding]:
        names = self.non_finite_networks()
        return [Finding(f"weights/{n}", "not finite", step, math.nan, _UNLIMITED) for n in names]

    def _check_stuck(self, step: int, row: Mapping[str, float]) -> list[Finding]:
        share = row.get(AT_BOUNDS, 0.0)
        self._stuck = self._stuck + 1 if share >= STUCK_SHARE else 0
        if self._stuck != STUCK_EPOCHS:
            return []
        # the model still learns, from equal weights: RAMBO's supervised part, no divergence
        return [Finding(AT_BOUNDS, "stuck", step, share, STUCK_SHARE, fatal=False)]


class _Watch:
    """The metrics of one kind of update: first bad step and largest magnitude of each, (k,)."""

    def __init__(self, limits: list[float], device: torch.device) -> None:
        self.limits = torch.tensor(limits, dtype=torch.float32, device=device)
        self.first = torch.full((len(limits),), -1, dtype=torch.int64, device=device)
        self.worst = torch.zeros(len(limits), device=device)

    def see(self, values: torch.Tensor, step: int | torch.Tensor) -> None:
        if self.first.device != values.device:  # read from a checkpoint
            places = (self.limits, self.first, self.worst)
            self.limits, self.first, self.worst = (x.to(values.device) for x in places)
        size = values.abs()
        # written so that NaN is bad too
        bad = ~(size <= self.limits)
        self.first.copy_(torch.where(bad & (self.first < 0), step, self.first))
        torch.maximum(self.worst, size, out=self.worst)

    def clear(self) -> None:
        self.first.fill_(-1)
        self.worst.zero_()

    def findings(self, names: tuple[str, ...]) -> list[Finding]:
        rows = torch.stack([self.first.double(), self.worst.double(), self.limits.double()])
        first, worst, limits = rows.tolist()
        return [
            Finding(
                name,
                "out of bounds" if math.isfinite(worst[i]) else "not finite",
                int(first[i]),
                worst[i],
                limits[i],
            )
            for i, name in enumerate(names)
            if first[i] >= 0
        ]


def _stack(values: Iterable[torch.Tensor | float]) -> torch.Tensor:
    """Scalars as one float32 vector, on the accelerator if any of them is there."""
    tensors = [torch.as_tensor(value).detach() for value in values]
    device = next((x.device for x in tensors if x.device.type != "cpu"), tensors[0].device)
    return torch.stack([x.to(device, torch.float32).reshape(()) for x in tensors])


def _floating(module: nn.Module) -> list[torch.Tensor]:
    return [x.detach() for x in module.state_dict().values() if x.is_floating_point()]


def _norm(tensors: list[torch.Tensor]) -> torch.Tensor:
    if not tensors:
        return torch.zeros(())
    return torch.stack(torch._foreach_norm(tensors)).norm()
