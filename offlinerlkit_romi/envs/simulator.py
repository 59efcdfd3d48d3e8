"""A MuJoCo simulator whose parameters are not what they were."""

from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offlinerlkit_romi.envs.shifts import Shift
from offlinerlkit_romi.errors import UserError, unknown_name

NOMINAL = tuple(
    attrgetter(name)
    for name in (
        *("opt.gravity", "body_mass", "body_inertia"),
        *("geom_friction", "dof_damping", "actuator_gear"),
    )
)
# Friction: every geom, for MuJoCo takes the larger of two that touch; the floor's alone changes
# nothing where the foot's is larger (Hopper: 1.0 and 2.0).
SCALED: dict[str, Callable[[Any], NDArray[np.float64]]] = {
    "gravity": lambda model: model.opt.gravity[2:],
    "friction": lambda model: model.geom_friction[:, 0],
    "damping": lambda model: model.dof_damping,
    "gear": lambda model: model.actuator_gear[:, 0],
}


class Simulator:
    """A MuJoCo model whose parameters are factors of what they were when this was made.

    Args:
        env: Has `model` and `data`, as Gymnasium's MuJoCo environments.
    """

    def __init__(self, env: Any) -> None:
        self._model, self._data = env.model, env.data
        self._nominal = [field(env.model).copy() for field in NOMINAL]

    def set(self, shifts: Iterable[Shift]) -> None:
        """Scale the nominal parameters; none restores them. To be followed by a reset."""
        import mujoco

        for field, values in zip(NOMINAL, self._nominal, strict=True):
            field(self._model)[:] = values
        for shift in shifts:
            if shift.kind == "mass":
                _scale_mass(self._model, shift)
            else:
                SCALED[shift.kind](self._model)[:] *= shift.scale
        mujoco.mj_setConst(self._model, self._data)  # what is derived from masses


def _scale_mass(model: Any, shift: Shift) -> None:
    """Mass and inertia alike: mass alone would change the radius of gyration."""
    bodies = {model.body(i).name: i for i in range(1, model.nbody)}
    if shift.unit != "factor" and shift.unit not in bodies:
        raise UserError(unknown_name(f"body of shift {shift}", shift.unit, bodies))
    place = slice(None) if shift.unit == "factor" else bodies[shift.unit]
    model.body_mass[place] *= shift.scale
    model.body_inertia[place] *= shift.scale
