"""One thing that is wrong with data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Attributes:
        check: Name of the check.
        severity: ``error``: training on it learns something wrong. ``warning``: suspicious, or too
            rare to matter. ``note``: a limit of the examination.
        rows: The rows concerned, ascending; empty where it concerns the whole file.
        what: What is wrong, in words that follow the number of rows.
        remedy: What to do.
    """

    check: str
    severity: Severity
    rows: NDArray[Any]
    what: str
    remedy: str

    @classmethod
    def of(
        cls, check: str, severity: Severity, rows: NDArray[Any], what: str, remedy: str
    ) -> Finding | None:
        """What concerns rows, by their numbers or as a mask; None where there are none."""
        numbers = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        return cls(check, severity, numbers, what, remedy) if len(numbers) else None

    @property
    def count(self) -> int:
        """Number of rows."""
        return len(self.rows)

    @property
    def first(self) -> int | None:
        """The first row, None where no row is to blame."""
        return int(self.rows[0]) if len(self.rows) else None

    def __str__(self) -> str:
        place = f"{self.count} rows {self.what} (first row {self.first})"
        return f"{place if self.count else self.what}: {self.remedy}"
