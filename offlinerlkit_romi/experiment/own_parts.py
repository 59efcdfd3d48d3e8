"""Networks of the user's own: functions of (S, A), which a run records by their import path."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from offlinerlkit_romi.envs.functions import import_function, import_path
from offlinerlkit_romi.errors import UserError, reason_of, shown
from offlinerlkit_romi.experiment.config import flag
from offlinerlkit_romi.modules.dynamics_module import forward_recorded

PARTS = ("actor", "critic", "dynamics", "weighting_net")
# calls a network on observations (2, S) and actions (2, A)
Look = Callable[[Any, torch.Tensor, torch.Tensor], torch.Tensor]


def named_parts(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a call, functions that make networks by their import paths.

    Raises:
        UserError: One cannot be found again by another process.
    """
    return {
        name: _path_of(name, value) if name in PARTS and callable(value) else value
        for name, value in values.items()
    }


def own_network(
    setting: str, path: str, sizes: tuple[int, int], device: torch.device | str, look: Look
) -> nn.Module:
    """Make a network and see whether it fits.

    Args:
        setting: What it is for.
        path: module:function, of (S, A).
        sizes: S and A.
        device: Where to.
        look: Calls it as its policy will.

    Raises:
        UserError: It cannot be made, or does not fit.
    """
    obs_dim, action_dim = sizes
    rows = [torch.zeros(2, width, device=device) for width in sizes]
    width = {"actor": action_dim, "dynamics": obs_dim + 1}.get(setting, 1)
    make = import_function(path, flag(setting))
    try:
        made = make(*sizes)
        if not isinstance(made, nn.Module):
            raise TypeError(f"it returned {shown(made)}, not a torch.nn.Module")
        made.to(device).eval()
        with torch.no_grad():
            found = tuple(look(made, *rows).shape)
        if found != (2, width):
            raise ValueError(f"for 2 rows its output is {found}, not {(2, width)}")
    except Exception as error:  # the network is the user's: anything can happen in it
        raise UserError(
            f"{flag(setting)} {path} does not fit ({reason_of(error)})",
            f"it is a function of ({obs_dim}, {action_dim}), see docs/own_parts.md",
        ) from error
    return made.train()


def predicted(model: Any, rows: torch.Tensor, kind: str) -> torch.Tensor:
    """The first member's prediction, (2, S+A) -> (2, S+1), whichever way an ensemble is called.

    Args:
        model: Of `EnsembleDynamicsModel`'s kind.
        rows: Observations and actions.
        kind: The simulator's class: ROMI's goes through the layers itself.

    Raises:
        ValueError: Two ways give different predictions.
    """
    count = int(model.num_ensemble)
    mean, _ = model(rows)  # (E, 2, D)
    members = torch.arange(count, device=rows.device)
    others = [model.forward_members(rows.expand(count, *rows.shape), members)[0]]
    if kind == "WeightedEnsembleDynamics":
        others.append(forward_recorded(model, rows)[0])
    if not all(torch.allclose(mean, other, atol=1e-5) for other in others):
        raise ValueError("forward, forward_members and the layers one by one do not agree")
    first: torch.Tensor = mean[0]
    return first


def _path_of(setting: str, factory: Callable[..., Any]) -> str:
    path = import_path(factory) if hasattr(factory, "__qualname__") else ""
    if not path or import_function(path, flag(setting)) is not factory:
        raise UserError(
            f"{setting}={shown(factory)} has no import path, by which the run would find it again",
            "define it by a name of its own in a module, not in the script, and import it",
        )
    return path
