"""What may differ from the world the data come from when a policy is tested, and by how much.

A shift is written KIND:SCALE[:UNIT]; a condition is one shift, or several joined by `+`. Training
data are never touched, nor the true state, reward and termination: sensors and attacks change what
the policy is shown, actuation what reaches the simulator, dynamics the simulator itself.

A kind's step is a pure function of (state, x, `By`) for all running episodes at once;
it returns the new state, arrays that begin with (n,), and what takes the place of x. Sources of the
kinds: ROMBRL (delta), DMBP (gaussian, uniform, mask), RORL (attacks), Google's RWRL suite (drop,
stuck, repeat, delay), RFQI (action_random, dynamics). docs/robustness.md names the differences.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from offlinerlkit_romi.errors import UserError, unknown_name

Array = NDArray[Any]
State = tuple[Array, ...]
CLEAN = "clean"


class Draws:
    """Random numbers for episodes side by side, each from a generator of its own.

    Args:
        generators: One per running episode, (n,).
    """

    def __init__(self, generators: Sequence[np.random.Generator]) -> None:
        self.generators = list(generators)

    def normal(self, *shape: int) -> Array:
        """Standard normal, (n, *shape)."""
        return np.stack([rng.standard_normal(shape) for rng in self.generators])

    def uniform(self, *shape: int) -> Array:
        """Uniform on [0, 1), (n, *shape)."""
        return np.stack([rng.random(shape) for rng in self.generators])

    def keep(self, rows: Array) -> None:
        """Go on with these episodes, a mask (n,)."""
        self.generators = [rng for rng, kept in zip(self.generators, rows, strict=True) if kept]


@dataclass(frozen=True)
class Shift:
    """One thing that differs, and by how much.

    Attributes:
        kind: One of `KINDS`.
        scale: How much, in its unit.
        unit: What the scale counts: see `Kind.units`.

    Raises:
        UserError: Unknown kind, a scale that it cannot have, a unit that is missing or not its.
    """

    kind: str
    scale: float
    unit: str = ""

    def __post_init__(self) -> None:
        kind = _kind(self.kind)
        if not self.unit and len(kind.units) == 1:
            object.__setattr__(self, "unit", kind.units[0])
        if not re.fullmatch("|".join([*kind.units, kind.pattern]), self.unit):
            told = "names no unit" if not self.unit else f"has no unit {self.unit!r}"
            raise UserError(f"shift {self}", f"{self.kind} {told}; write {kind.usage(self.kind)}")
        low, high = kind.limits
        whole = not kind.whole or float(self.scale).is_integer()
        if not (low <= self.scale <= high and whole):
            raise UserError(f"shift {self}: the scale of {self.kind} is {kind.range}")
        if self.dims and len(self.dims) != self.scale:
            raise UserError(f"shift {self}: name {self.scale:g} dimensions, or none to draw them")

    @property
    def block(self) -> str:
        """Where it stands in a table."""
        return KINDS[self.kind].block

    @property
    def steps(self) -> int:
        """For how many steps it lasts, of a fault."""
        return int(self.unit.removesuffix("steps"))

    @property
    def dims(self) -> list[int]:
        """The dimensions it names; empty where they are drawn."""
        named = self.kind == "mask" and self.unit != "dims"
        return [int(x) for x in self.unit.split(",")] if named else []

    @property
    def neutral(self) -> float:
        """The scale that changes nothing."""
        return 1.0 if self.block == DYNAMICS else 0.0

    def __str__(self) -> str:
        """As it is written."""
        return f"{self.kind}:{self.scale:g}" + (f":{self.unit}" if self.unit else "")


class By(NamedTuple):
    """What a step is told.

    Attributes:
        shift: Scale and unit.
        draws: Random numbers, for (n,) episodes.
        std: What the scale is multiplied by, (S,) or 1.
    """

    shift: Shift
    draws: Draws
    std: Array | float = 1.0

    @property
    def scale(self) -> Array | float:
        """In the units of what is moved."""
        return self.shift.scale * self.std

    def sign(self, width: int) -> Array:
        """Uniform on [-1, 1), (n, width)."""
        return 2 * self.draws.uniform(width) - 1


Moved = tuple[State, Array]
Step = Callable[["State | None", Array, By], Moved]


def delta(state: State | None, obs: Array, by: By) -> Moved:
    """Shows s' + c z (s' - o): noise in units of the apparent one-step change; clean at first.

    ROMBRL's; stationary, with std(o - s) = c / sqrt(1 - c^2) times the rms change.
    """
    if state is None:
        return (obs,), obs
    shown = obs + by.scale * by.draws.normal(obs.shape[1]) * (obs - state[0])
    return (shown,), shown


def gaussian(state: State | None, x: Array, by: By) -> Moved:
    """Adds c std z."""
    return (), x + by.scale * by.draws.normal(x.shape[1])


def uniform(state: State | None, x: Array, by: By) -> Moved:
    """Adds c std u, u uniform on [-1, 1)."""
    return (), x + by.scale * by.sign(x.shape[1])


def bias(state: State | None, x: Array, by: By) -> Moved:
    """Adds b, uniform in +-c std and drawn once per episode."""
    (offset,) = state or (by.scale * by.sign(x.shape[1]),)
    return (offset,), x + offset


def drop(state: State | None, obs: Array, by: By) -> Moved:
    """Each dimension is 0 for k steps, beginning with probability p."""
    left, failing = _fault(state, obs, by)
    return (left,), np.where(failing, 0.0, obs)


def stuck(state: State | None, obs: Array, by: By) -> Moved:
    """Each dimension keeps what it last showed for k steps, beginning with probability p."""
    left, failing = _fault(state, obs, by)
    shown = obs if state is None else np.where(failing, state[1], obs)
    return (left, shown), shown


def _fault(state: State | None, obs: Array, by: By) -> tuple[Array, Array]:
    """Steps that faults have still to last after this one, and where they are now, (n, S) each."""
    left = state[0] if state else np.zeros(obs.shape, int)
    begins = (by.draws.uniform(obs.shape[1]) < by.shift.scale) & (left == 0)
    left = np.where(begins, by.shift.steps, left)
    return np.maximum(left - 1, 0), left > 0


def mask(state: State | None, obs: Array, by: By) -> Moved:
    """K dimensions, drawn per episode or named, are 0 all along."""
    if state is None:
        width, shift = obs.shape[1], by.shift
        if max([*shift.dims, int(shift.scale) - 1]) >= width:
            raise UserError(f"shift {shift}: observations have dimensions 0 to {width - 1}")
        ranks = by.draws.uniform(width).argsort(1).argsort(1)
        chosen = np.isin(np.arange(width), shift.dims) if shift.dims else ranks < shift.scale
        state = (np.broadcast_to(chosen, obs.shape),)
    return state, np.where(state[0], 0.0, obs)


def delay(state: State | None, x: Array, by: By) -> Moved:
    """What was there k steps before; until then the first observation or action (as RWRL)."""
    if state is None:
        state = (np.repeat(x[:, None], int(by.shift.scale), axis=1),)
    queue = np.concatenate([state[0], x[:, None]], axis=1)  # (n, k+1, .)
    return (queue[:, 1:],), queue[:, 0]


def action_random(state: State | None, action: Array, by: By) -> Moved:
    """With probability p an action uniform on the box."""
    other = by.sign(action.shape[1])
    return (), np.where(by.draws.uniform(1) < by.shift.scale, other, action)


def action_repeat(state: State | None, action: Array, by: By) -> Moved:
    """Each action is kept for k steps more."""
    held, left = state or (action, np.zeros((len(action), 1)))
    held = np.where(left > 0, held, action)
    return (held, np.where(left > 0, left - 1, by.shift.scale)), held


SENSORS, FAULTS, ATTACKS = "sensor noise", "sensor faults", "attacks"
ACTUATION, DYNAMICS = "actuation", "dynamics"


class Kind(NamedTuple):
    """What a kind of shift may be told.

    Attributes:
        block: Where it stands in a table.
        units: What its scale may count; the only one need not be named.
        range: Its scales, for people.
        limits: Smallest and largest scale.
        whole: Only whole numbers.
        pattern: Further units, a regular expression.
        example: A unit of the pattern.
        step: What it does to observations or actions; None for attacks and dynamics.
    """

    block: str
    units: tuple[str, ...]
    range: str = "0 or more"
    limits: tuple[float, float] = (0.0, 1e6)
    whole: bool = False
    pattern: str = "(?!)"
    example: str = ""
    step: Step | None = None

    def usage(self, name: str) -> str:
        """How it is written."""
        return " or ".join(f"{name}:SCALE:{unit}" for unit in (*self.units, self.example) if unit)


def _fault_kind(step: Step) -> Kind:
    return Kind(
        FAULTS, (), "a probability", (0, 1), pattern=r"\d+steps", example="5steps", step=step
    )


_NOISE = ("std", "raw")
_COUNT: dict[str, Any] = {"range": "a whole number", "whole": True}
_FACTOR: dict[str, Any] = {"range": "a factor above 0", "limits": (1e-6, 1e6)}
# a kind's place decides its draws: new ones come last
KINDS: dict[str, Kind] = {
    "delta": Kind(SENSORS, ("step",), "0 to below 1", (0, 1 - 1e-9), step=delta),
    "gaussian": Kind(SENSORS, _NOISE, step=gaussian),
    "uniform": Kind(SENSORS, _NOISE, step=uniform),
    "bias": Kind(SENSORS, _NOISE, step=bias),
    "drop": _fault_kind(drop),
    "stuck": _fault_kind(stuck),
    "mask": Kind(FAULTS, ("dims",), pattern=r"\d+(,\d+)*", example="0,3", step=mask, **_COUNT),
    "obs_delay": Kind(FAULTS, ("steps",), step=delay, **_COUNT),
    "action_diff": Kind(ATTACKS, _NOISE),
    "min_q": Kind(ATTACKS, _NOISE),
    "action_diff_pgd": Kind(ATTACKS, _NOISE),
    "min_q_pgd": Kind(ATTACKS, _NOISE),
    "action_gaussian": Kind(ACTUATION, ("action",), step=gaussian),
    "action_random": Kind(ACTUATION, ("probability",), "a probability", (0, 1), step=action_random),
    "action_repeat": Kind(ACTUATION, ("steps",), step=action_repeat, **_COUNT),
    "action_delay": Kind(ACTUATION, ("steps",), step=delay, **_COUNT),
    "gravity": Kind(DYNAMICS, ("factor",), **_FACTOR),
    "mass": Kind(DYNAMICS, ("factor",), pattern=r"[a-z]\w*", example="torso", **_FACTOR),
    "friction": Kind(DYNAMICS, ("factor",), **_FACTOR),
    "damping": Kind(DYNAMICS, ("factor",), **_FACTOR),
    "gear": Kind(DYNAMICS, ("factor",), **_FACTOR),
}
PARAMETERS = tuple(name for name, kind in KINDS.items() if kind.block == DYNAMICS)
KNOWN = f"the kinds are {', '.join(KINDS)}"


def of_block(shifts: Iterable[Shift], block: str) -> list[Shift]:
    """Those of the shifts that belong to a block, in their order."""
    return [shift for shift in shifts if shift.block == block]


def parse(condition: str | Shift | Iterable[Shift]) -> tuple[Shift, ...]:
    """A condition from KIND:SCALE[:UNIT], several of them joined by `+`, or "clean".

    Raises:
        UserError: It is not written so; see `Shift`.
    """
    if isinstance(condition, Shift):
        return (condition,)
    if not isinstance(condition, str):
        return tuple(condition)
    return () if condition == CLEAN else tuple(map(_parse, re.split(r"\+(?=[a-z])", condition)))


def _parse(text: str) -> Shift:
    kind, _, rest = text.partition(":")
    scale, _, unit = rest.partition(":")
    usage = _kind(kind).usage(kind)
    try:
        value = float(scale)
    except ValueError:
        raise UserError(f"shift {text!r}: write {usage}") from None
    return Shift(kind, value, unit)


def _kind(name: str) -> Kind:
    if name not in KINDS:
        raise UserError(unknown_name("shift", name, KINDS, remedy=KNOWN))
    return KINDS[name]


def name_of(shifts: Sequence[Shift]) -> str:
    """A condition as it is written."""
    return "+".join(map(str, shifts)) or CLEAN


def block_of(shifts: Sequence[Shift]) -> str:
    """Where a condition stands in a table."""
    blocks = {shift.block for shift in shifts}
    return (blocks.pop() if len(blocks) == 1 else "together") if blocks else CLEAN


def needs_std(shifts: Iterable[Shift]) -> bool:
    """Whether a scale counts the data's standard deviations."""
    return any(shift.unit == "std" for shift in shifts)


def needs_critics(shifts: Iterable[Shift]) -> bool:
    """Whether one attacks what critics value."""
    return any(shift.kind.startswith("min_q") for shift in shifts)


def check_known(shifts: Iterable[Shift], parameters: Sequence[str], of: str) -> None:
    """Whether a simulator has the parameters that are to be scaled.

    Raises:
        UserError: It lacks one; the message names the kinds that can be had.
    """
    for shift in of_block(shifts, DYNAMICS):
        if shift.kind not in parameters:
            known = [n for n, x in KINDS.items() if x.block != DYNAMICS or n in parameters]
            raise UserError(f"shift {shift}: {of} has no {shift.kind}; it knows {', '.join(known)}")


def generator_of(seed: Sequence[int], shift: Shift, before: Sequence[Shift]) -> np.random.Generator:
    """What an episode's draws of a shift come from, whatever else there is.

    Args:
        seed: The episode's.
        shift: What draws.
        before: Shifts before it: a second one of its kind has other draws.
    """
    twins = sum(other.kind == shift.kind for other in before)
    # from 1: a sequence that ends in 0 is the episode's own seed
    place = 1 + list(KINDS).index(shift.kind) + len(KINDS) * twins
    return np.random.default_rng(np.random.SeedSequence([*seed, place]))


def _times(kind: str, scales: Iterable[float], unit: str = "") -> Iterator[str]:
    return (f"{kind}:{scale:g}" + (f":{unit}" if unit else "") for scale in scales)


_PUSHED = (0.6, 0.8, 1.2, 1.4)
SUITES: Mapping[str, tuple[str, ...]] = {
    "robust-v1": (
        CLEAN,
        *_times("delta", (0.05, 0.1, 0.2)),
        *_times("gaussian", (0.05, 0.1), "std"),
        *_times("gaussian", (0.1,), "raw"),
        *_times("action_diff_pgd", (0.05, 0.1), "std"),
        *_times("min_q_pgd", (0.05, 0.1), "std"),
        *("drop:0.05:5steps", "stuck:0.05:5steps"),
        *(text for name in PARAMETERS for text in _times(name, _PUSHED)),
        *("action_gaussian:0.1", "action_random:0.1", "action_delay:1"),
    ),
    "robust-small-v1": (
        CLEAN,
        *_times("delta", (0.05, 0.2)),
        "action_diff_pgd:0.1:std",
        "drop:0.05:5steps",
        *(text for name in ("gravity", "mass", "friction") for text in _times(name, (0.8, 1.2))),
    ),
}
