"""Exact counts of integer codes, on the device: sorted distinct keys and a binary search."""

from __future__ import annotations

import os
import pickle
from typing import NamedTuple

import torch

from offlinerlkit_romi.errors import UserError

# above every code, so that padded keys stay sorted and match nothing
PADDING = torch.iinfo(torch.int64).max
COUNT_MODES = ("UC", "AVG", "LC")


class CountTable(NamedTuple):
    """How often each code occurs, member by member."""

    keys: torch.Tensor  # (M, T) int64, ascending, padded with PADDING
    counts: torch.Tensor  # (M, T) int64, 0 under padding

    @classmethod
    def of(cls, codes: torch.Tensor) -> CountTable:
        """Count the codes (M, N) int64, all below PADDING."""
        distinct = [member.unique(return_counts=True) for member in codes]
        shape = (len(codes), max(len(keys) for keys, _ in distinct))
        table = cls(codes.new_full(shape, PADDING), codes.new_zeros(shape))
        for member, (keys, counts) in enumerate(distinct):
            table.keys[member, : len(keys)] = keys
            table.counts[member, : len(keys)] = counts
        return table

    def lookup(self, codes: torch.Tensor) -> torch.Tensor:
        """Occurrences of codes (M, n) -> (M, n); a code never seen counts as one."""
        # (M, n) positions of the first key not below the code
        at = torch.searchsorted(self.keys, codes).clamp_max(self.keys.shape[1] - 1)
        found = self.keys.gather(1, at) == codes
        return torch.where(found, self.counts.gather(1, at), 1)


def aggregate(counts: torch.Tensor, mode: str, coef: float) -> torch.Tensor:
    """Pseudo-count from the members' counts, (M, n) -> (n, 1), at least 1.

    AVG is their mean, UC mean + coef * std, LC mean - coef * std (population std). The release puts
    1 where LC is not positive and leaves it between 0 and 1 as it is, which five members and coef
    0.5 cannot reach.
    """
    mean = counts.mean(0)
    if mode == "AVG":
        return mean.unsqueeze(-1)
    spread = coef * counts.std(0, unbiased=False)
    count = mean + spread if mode == "UC" else mean - spread
    return count.clamp_min(1).unsqueeze(-1)


def read_counts(
    path: str | os.PathLike[str], device: torch.device
) -> tuple[torch.Tensor, CountTable]:
    """Count elites (M,) and table of a file written by `CountEnsembleDynamics.save`.

    Raises:
        UserError: no such file, or no such table.
    """
    try:
        state = torch.load(path, map_location=device, weights_only=True)
        elites, table = state["elites"], CountTable(state["keys"], state["counts"])
        fits = table.keys.shape == table.counts.shape and len(table.keys) == len(elites) > 0
    except FileNotFoundError as error:
        raise UserError(f"there is no {path}; give a folder that a count run saved into") from error
    # what torch.load raises depends on where the bytes stop making sense
    except (
        *(OSError, EOFError, RuntimeError, ValueError, KeyError, TypeError, AttributeError),
        pickle.UnpicklingError,
    ) as error:
        raise UserError(f"cannot read {path}: it is damaged, or no table of counts") from error
    if not fits or table.keys.dtype != torch.int64:
        raise UserError(f"{path} holds no table of counts that fits its elites")
    return elites, table
