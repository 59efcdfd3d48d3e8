"""What to do about what the sentinel found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from offlinerlkit_romi.errors import DivergedError
from offlinerlkit_romi.policy_trainer.checkpoints import Checkpoints
from offlinerlkit_romi.policy_trainer.diagnosis import explain, in_words
from offlinerlkit_romi.policy_trainer.sentinel import Finding, Sentinel
from offlinerlkit_romi.system.files import write_json
from offlinerlkit_romi.utils.logger import Logger


class Health:
    """Tells of a divergence, and ends the run at it.

    Args:
        sentinel: Knows which networks are no longer finite.
        on_divergence: "stop" the run, or only "warn".
        logger: Takes the warning and the diagnosis.
        checkpoints: Where the last sound state would lie.
        buffers: Transitions by what they are, to look for the cause in.
    """

    def __init__(
        self,
        sentinel: Sentinel,
        on_divergence: str,
        logger: Logger,
        checkpoints: Checkpoints | None,
        buffers: Callable[[], Mapping[str, Any]],
    ) -> None:
        self._sentinel, self._on_divergence = sentinel, on_divergence
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
        stop = bool(fatal) and self._on_divergence == "stop"
        networks = self._sentinel.non_finite_networks()
        diagnosis = explain(fatal or findings, networks, self._buffers(), self._last_good())
        path = Path(self._logger.result_dir) / "diagnosis.json"
        write_json(path, diagnosis | {"stopped": stop})
        words = in_words(diagnosis)
        if stop:
            before_stop()
            raise DivergedError(f"training diverged: {words}; see {path}")
        if {finding.quantity for finding in findings} - self._warned:
            self._warned |= {finding.quantity for finding in findings}
            self._logger.log(f"warning: {words}; see {path}")
        return all(finding.kind != "not finite" for finding in findings)

    def _last_good(self) -> str:
        steps = [] if self._checkpoints is None else self._checkpoints.store.steps()
        if self._checkpoints is not None and steps:
            return f"the last sound state is {self._checkpoints.store.path(steps[-1])}"
        weights = Path(self._logger.checkpoint_dir) / "policy.pth"
        return (
            f"{weights} holds the policy of the last sound epoch"
            if weights.is_file()
            else "no epoch was sound"
        )
