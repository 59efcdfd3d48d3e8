"""What the sentinel found, in words: what, since when, in which term, what to try; and the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from offlinerlkit_romi.errors import DivergedError
from offlinerlkit_romi.policy_trainer.checkpoints import Checkpoints
from offlinerlkit_romi.policy_trainer.sentinel import AT_BOUNDS, Finding, Sentinel
from offlinerlkit_romi.system.files import write_json
from offlinerlkit_romi.utils.logger import DIAGNOSIS_FILE, WARN, WEIGHTS_FILE, Logger

DATA, MODEL_DATA = "data", "model transitions"
# the first fitting prefix wins: (prefix, term, who is to blame)
TERMS: tuple[tuple[str, str, str], ...] = (
    ("q/", "the critics' values of a batch", "critic"),
    ("loss/critic", "the critics' squared error against reward + gamma * next value", "critic"),
    ("loss/actor", "the actor's loss, alpha * log-density - value", "actor"),
    ("loss/alpha", "the temperature's loss", "actor"),
    ("entropy", "the policy's entropy", "actor"),
    ("alpha", "the entropy temperature", "actor"),
    ("adv_dynamics_update/adv", "the adversarial term of the model's loss", "adversary"),
    ("adv_dynamics_update/sl", "the likelihood term of the model's loss", "model"),
    ("adv_dynamics_update/", "the model's whole loss", "adversary"),
    ("romi/inner", "the weighted likelihood of the model (inner loss)", "model"),
    ("romi/outer", "the robust value-aware loss (outer loss)", "model"),
    (AT_BOUNDS, "the weighting network's outputs", "weights"),
    ("romi/", "the weighting network's update", "weights"),
    ("constraint/rounds_at_bound", "rounds at the largest multiplier", "budget"),
    ("constraint/", "the model's divergence from the pre-trained one", "budget"),
    ("follower/", "the model's steps against the policy", "budget"),
    ("second_order/", "the model's curvature", "correction"),
    ("leader/", "the policy's steps against the model", "correction"),
    ("onpolicy/", "trajectories in the model", "model"),
    ("rollout_info/", "the model's rollouts", "model"),
    ("model/", "the model's predictions on held-out data", "model"),
    ("gradient/actor", "the gradient of the actor's loss", "actor"),
    ("gradient/leader", "the gradient of the policy's steps against the model", "correction"),
    ("gradient/critic", "the gradient of the critics' loss", "critic"),
    ("gradient/dynamics_adv", "the gradient of the model's loss beside the policy", "adversary"),
    ("gradient/dynamics", "the gradient of the model's likelihood", "model"),
    ("gradient/weighting", "the hypergradient of the weighting network", "weights"),
    ("weights/actor", "the actor's parameters", "actor"),
    ("weights/critic", "the critics' parameters", "critic"),
    ("weights/dynamics", "the model's parameters", "model"),
    ("weights/weighting", "the weighting network's parameters", "weights"),
)
ADVICE = {
    DATA: "check the data file with `offlinerlkit-romi data doctor FILE`",
    "critic": "lower --critic-lr (of IQL --critic-q-lr), or lower --gamma",
    "actor": "lower --actor-lr, or fix the temperature with --no-auto-alpha",
    "adversary": "lower the adversary's strength (--adv-weight) or --dynamics-adv-lr",
    "budget": "raise --eps, or lower --dynamics-adv-lr",
    "correction": "lower --leader-lr or --correction-cap, or raise --damping-floor",
    "model": "shorten --rollout-length, or lower --dynamics-adv-lr",
    "weights": "lower --weight-lr, or widen --weight-range",
    "": "lower the learning rates",
}
# at the same step the cause comes before what it spoils
ORDER = (DATA, "adversary", "budget", "correction", "model", "weights", "critic", "actor", "")


class OnDivergence:
    """Tells of a divergence, and ends the run at it.

    Args:
        mode: "stop" the run, or only "warn".
        sentinel: Knows which networks are no longer finite.
        logger: Takes the warning and the diagnosis.
        checkpoints: Where the last sound state would lie.
        buffers: Transitions by what they are, to look for the cause in.
    """

    def __init__(
        self,
        mode: str,
        sentinel: Sentinel,
        logger: Logger,
        checkpoints: Checkpoints | None,
        buffers: Callable[[], Mapping[str, Any]],
    ) -> None:
        self._mode, self._sentinel = mode, sentinel
        self._logger, self._checkpoints, self._buffers = logger, checkpoints, buffers
        self._warned: set[str] = set()

    def judge(self, findings: Sequence[Finding], before_stop: Callable[[], None]) -> bool:
        """Tell what the sentinel found; returns whether all numbers are finite.

        Args:
            findings: Of an epoch.
            before_stop: Called before the run ends.

        Raises:
            DivergedError: It found divergence, and the run is to stop at it.
        """
        if not findings:
            return True
        fatal = [finding for finding in findings if finding.fatal]
        stop = bool(fatal) and self._mode == "stop"
        networks = self._sentinel.non_finite_networks()
        diagnosis = explain(fatal or findings, networks, self._buffers(), self._last_good())
        path = Path(self._logger.result_dir) / DIAGNOSIS_FILE
        write_json(path, diagnosis | {"stopped": stop})
        words = in_words(diagnosis)
        if stop:
            before_stop()
            raise DivergedError(f"training diverged: {words}; see {path}")
        if {finding.quantity for finding in findings} - self._warned:
            self._warned |= {finding.quantity for finding in findings}
            self._logger.log(f"warning: {words}; see {path}", WARN)
        return all(finding.kind != "not finite" for finding in findings)

    def _last_good(self) -> str:
        steps = [] if self._checkpoints is None else self._checkpoints.store.steps()
        if self._checkpoints is not None and steps:
            return f"the last sound state is {self._checkpoints.store.path(steps[-1])}"
        weights = Path(self._logger.checkpoint_dir) / WEIGHTS_FILE
        return (
            f"{weights} holds the policy of the last sound epoch"
            if weights.is_file()
            else "no epoch was sound"
        )


def explain(
    findings: Sequence[Finding],
    networks: Sequence[str],
    buffers: Mapping[str, Any],
    last_good: str,
) -> dict[str, Any]:
    """Collect the evidence of a divergence.

    Args:
        findings: What the sentinel saw.
        networks: Those that hold NaN or infinity.
        buffers: Transitions by what they are; ones that can be read are searched for NaN.
        last_good: Where the last sound state lies, or that there is none.
    """
    bad_rows = {name: rows for name, x in buffers.items() if (rows := _bad_rows(x))["rows"]}
    first = min(findings, key=lambda f: (f.since_step, ORDER.index(_blamed(f.quantity)[1])))
    term, culprit = _blamed(first.quantity)
    if DATA in bad_rows:
        culprit = DATA
    return {
        "quantity": first.quantity,
        "kind": first.kind,
        "since_step": first.since_step,
        "term": term,
        "culprit": culprit,
        "value": first.value,
        "limit": first.limit,
        "findings": [dict(vars(f), term=_blamed(f.quantity)[0]) for f in findings],
        "networks_not_finite": list(networks),
        "transitions_not_finite": bad_rows,
        "last_good": last_good,
        "try": ADVICE[culprit],
    }


def in_words(diagnosis: Mapping[str, Any]) -> str:
    """A diagnosis in one line."""
    what = f"{diagnosis['quantity']} {diagnosis['kind']}"
    if diagnosis["kind"] == "out of bounds":
        what += f" ({diagnosis['value']:.3g}, limit {diagnosis['limit']:.3g})"
    where = "".join(
        f"; {name}: {found['rows']} rows not finite, the first is row {found['first']}"
        for name, found in diagnosis["transitions_not_finite"].items()
    )
    return (
        f"{what} since step {diagnosis['since_step']}, in {diagnosis['term']}{where}; "
        f"{diagnosis['last_good']}; {diagnosis['try']}"
    )


def _blamed(quantity: str) -> tuple[str, str]:
    for prefix, term, culprit in TERMS:
        if quantity.startswith(prefix):
            return term, culprit
    return quantity, ""


def _bad_rows(buffer: Any) -> dict[str, int]:
    """How many rows hold NaN or infinity, and the first."""
    tensors = buffer.tensors() if hasattr(buffer, "tensors") else {}
    bad = [~x.isfinite().flatten(1).all(1) for x in tensors.values() if len(x)]
    if not bad:
        return {"rows": 0, "first": -1}
    rows = torch.stack(bad).any(0)
    count = int(rows.sum())
    return {"rows": count, "first": int(rows.float().argmax()) if count else -1}
