"""What the value of a field may be, written in the field's type."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, get_args

from offlinerlkit_romi.envs.functions import is_path

Rule = Callable[[Any], str]
# a loop's length; rows in memory; what float32 holds the square of; one layer's width
MANY, LARGE, BIG, WIDE = 10**9, 10**7, 10**9, 2**15


@dataclass(frozen=True)
class Between:
    """Rule for a number, or for each of several: from `low` to `high`, or above and below them."""

    low: float
    high: float
    above: bool = False
    below: bool = False

    def __call__(self, value: Any) -> str:
        """What is wrong with a value, empty if nothing is; NaN lies nowhere."""
        for number in value if isinstance(value, tuple) else (value,):
            if not (number > self.low if self.above else number >= self.low):
                return f"above {self.low:,}" if self.above else f"{self.low:,} or more"
            if not (number < self.high if self.below else number <= self.high):
                return f"below {self.high:,}" if self.below else f"{self.high:,} or less"
        return ""


def some(values: tuple[float, ...]) -> str:
    """Rule for several numbers: there is one."""
    return "" if values else "one number or more"


def rising(pair: tuple[float, float]) -> str:
    """Rule for two numbers."""
    return "" if pair[0] < pair[1] else "two rising numbers"


def not_zero(value: float) -> str:
    """Rule for a number."""
    return "" if value else "another number than 0"


def own_or(*words: str) -> Rule:
    """Rule for a text: one of these, or the import path of a function."""

    def check(value: str) -> str:
        known = value in words or is_path(value)
        return "" if known else " or ".join(filter(None, [*words, "module:function of (S, A)"]))

    return check


Own = Annotated[str, own_or("")]
Count = Annotated[int, Between(1, MANY)]
Whole = Annotated[int, Between(0, MANY)]
Size = Annotated[int, Between(1, LARGE)]  # of what lies in memory at once
Few = Annotated[int, Between(1, 1000)]  # members of an ensemble, draws per row
Seed = Annotated[int, Between(0, 2**32 - 1)]  # what NumPy and simulators take
Widths = Annotated[tuple[int, ...], some, Between(1, WIDE)]
Share = Annotated[float, Between(0, 1)]
Part = Annotated[float, Between(0, 1, above=True, below=True)]
Dropout = Annotated[float, Between(0, 1, below=True)]
Rate = Annotated[float, Between(0, 1, above=True)]
Weight = Annotated[float, Between(0, BIG)]
Positive = Annotated[float, Between(0, BIG, above=True)]
Number = Annotated[float, Between(-BIG, BIG)]


def rules(hint: Any) -> list[Rule]:
    """The rules in a field's type, or in what it is besides None."""
    parts = (hint, *get_args(hint))
    return [rule for part in parts for rule in getattr(part, "__metadata__", ())]


def complaints(hint: Any, value: Any) -> Iterator[str]:
    """What a value must be and is not; None, where the type allows it, is always right."""
    if value is not None:
        yield from filter(None, (rule(value) for rule in rules(hint)))
