"""Count-MORL's simulator: rewards lowered where the dataset has few transitions of the same code.

Paper: Kim & Oh, "Model-based Offline Reinforcement Learning with Count-based Conservatism", ICML
2023, arXiv 2307.11352: r - beta / sqrt(n(s, a)), where n counts the dataset rows with the same
learned binary code. Deviations from the released code, each for the better: counts are exact
instead of a sketch's, the coefficient of LC and UC is obeyed, the coder's best epoch is restored
together with its trunk's, the decoder can reconstruct its targets, and all of it is saved.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from offlinerlkit_romi.dynamics.ensemble_dynamics import (
    EnsembleDynamics,
    Rows,
    StepResult,
    TerminalFn,
)
from offlinerlkit_romi.dynamics.fit import EnsembleFit
from offlinerlkit_romi.engine import apply_gradients, read_weights, save_atomically
from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.modules import EnsembleDynamicsModel
from offlinerlkit_romi.modules.hash_coder import HashCoder, call_members, pack_bits
from offlinerlkit_romi.utils.scaler import StandardScaler

# the coder reads the output of the model's second hidden layer
TRUNK_LAYERS = 2
# rows encoded at a time: the features of a whole dataset would not fit into memory
CHUNK = 16_384
CODER_FILE, TABLE_FILE = "count_coder.pth", "count_table.pth"
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


@torch.no_grad()
def trunk_features(
    model: EnsembleDynamicsModel, inputs: torch.Tensor, members: torch.Tensor | None = None
) -> torch.Tensor:
    """Output of the trunk's second layer without gradient, (B, S+A) or (M, B, S+A) -> (M, B, F).

    M is all members unless some are named.
    """
    count = model.num_ensemble if members is None else len(members)
    hidden = inputs.expand(count, *inputs.shape[-2:])
    for layer in model.backbones[:TRUNK_LAYERS]:
        hidden = model.activation(call_members(layer, hidden, members))
    return hidden


def coder_loss(coder: HashCoder, features: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Sum over members of the mean squared reconstruction error, plus weight decay.

    Args:
        coder: the auto-encoders.
        features: of the trunk, (E, B, F).
        target: (E, B, S+A).
    """
    return reconstruction_errors(coder, features, target).sum() + coder.get_decay_loss()


def reconstruction_errors(
    coder: HashCoder, features: torch.Tensor, target: torch.Tensor
) -> torch.Tensor:
    """Mean squared error per member, (E, B, F), (E, B, S+A) or (B, S+A) -> (E,)."""
    reconstruction = coder.reconstruct(features)
    assert reconstruction.shape[-2:] == target.shape[-2:], (reconstruction.shape, target.shape)
    return (reconstruction - target).square().mean((1, 2))


class CountFit(EnsembleFit):
    """A fit that steps the coder after every step of the model, on the same rows.

    The coder's gradient stops at the trunk and it draws nothing: the model's fit is the same as
    without it.
    """

    coder: HashCoder
    coder_optim: torch.optim.Optimizer
    scaler: StandardScaler

    def state(self) -> dict[str, Any]:
        """As in `EnsembleFit`, and the coder."""
        return super().state() | {"coder": self.coder, "coder_optim": self.coder_optim}

    def step(self, rows: torch.Tensor) -> torch.Tensor:
        """One step of the model and one of the coder; returns the model's loss, detached."""
        loss = super().step(rows)
        inputs = self.train[0][rows]
        target = self.coder_target(inputs)
        params = [p for p in self.coder.parameters() if p.requires_grad]
        reconstruction = coder_loss(self.coder, trunk_features(self.model, inputs), target)
        apply_gradients(self.coder_optim, params, torch.autograd.grad(reconstruction, params))
        return loss

    def keep(self, improved: torch.Tensor) -> None:
        """A member's coder belongs to its trunk: both are remembered at the same epoch."""
        super().keep(improved)
        self.coder.update_save(improved)

    @torch.no_grad()
    def coder_errors(self) -> torch.Tensor:
        """Reconstruction error of every member on the held-out rows, (E,)."""
        inputs = self.holdout[0]
        target = self.coder_target(inputs)
        return reconstruction_errors(self.coder, trunk_features(self.model, inputs), target)

    def coder_target(self, inputs: torch.Tensor) -> torch.Tensor:
        """What scaled inputs are to be decoded to: themselves, or raw (s, a) as released."""
        if self.coder.decoder_out == "linear":
            return inputs
        return self.scaler.inverse_transform_tensor(inputs)


class CountEnsembleDynamics(EnsembleDynamics):
    """Gaussian ensemble whose rewards are lowered by beta / sqrt(pseudo-count).

    Args:
        model: the ensemble.
        optim: its optimiser.
        scaler: standardises (s, a); fitted by `train`.
        terminal_fn: rule (obs, action, next_obs) -> (n, 1) bool.
        penalty_coef: beta.
        count_mode: `UC`, `AVG` or `LC`, see `aggregate`.
        count_coef: factor of the spread in UC and LC.
        coder: the members' hash coders, on features of the model's second hidden layer.
        coder_optim: their optimiser.
        generator: as in `EnsembleDynamics`.

    Attributes:
        count_elites: members whose counts are asked: those with the smallest reconstruction error
            on held-out rows, (M,).
        table: their counts of the training rows; none before `train` or `load`.

    Raises:
        ValueError: unknown count mode.
    """

    def __init__(
        self,
        model: EnsembleDynamicsModel,
        optim: torch.optim.Optimizer,
        scaler: StandardScaler,
        terminal_fn: TerminalFn,
        penalty_coef: float = 1.0,
        count_mode: str = "UC",
        count_coef: float = 0.5,
        *,
        coder: HashCoder,
        coder_optim: torch.optim.Optimizer,
        generator: torch.Generator | None = None,
    ) -> None:
        # no penalty of the ensemble's own: each row is evaluated under its own member alone
        super().__init__(model, optim, scaler, terminal_fn, generator=generator)
        if count_mode not in COUNT_MODES:
            raise ValueError(f"count_mode is one of {COUNT_MODES}: {count_mode!r}")
        self.coder, self.coder_optim = coder, coder_optim
        self._beta, self._count_mode, self._count_coef = penalty_coef, count_mode, count_coef
        self.count_elites = model.elites.clone()
        self.table: CountTable | None = None

    def fitted(self) -> dict[str, Any]:
        """As in `EnsembleDynamics`, and the coder and its counts."""
        own = {"coder": self.coder, "coder_optim": self.coder_optim, "counts": self}
        return super().fitted() | own

    def state_dict(self) -> dict[str, Any]:
        """The counts, for a checkpoint."""
        table = None if self.table is None else list(self.table)
        return {"elites": self.count_elites, "table": table}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Count as where `state` was taken."""
        place = self.count_elites.device
        self.count_elites = state["elites"].to(place)
        if state["table"] is not None:
            self.table = CountTable(*(column.to(place) for column in state["table"]))

    def sample_step(self, obs: torch.Tensor, action: torch.Tensor) -> StepResult:
        """As in `EnsembleDynamics`, with the count penalty; also `count` (n, 1) in the last item.

        Raises:
            UserError: nothing has been counted yet.
        """
        next_obs, reward, terminal, info = super().sample_step(obs, action)
        info["count"] = self.count(obs, action)
        info["penalty"] = info["count"].rsqrt()
        return next_obs, reward - self._beta * info["penalty"], terminal, info

    @torch.no_grad()
    def count(self, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """Pseudo-count of state-action pairs in the training rows, (n, S), (n, A) -> (n, 1).

        Raises:
            UserError: nothing has been counted yet.
        """
        if self.table is None:
            raise UserError("nothing is counted yet: call train or load first")
        counts = self.table.lookup(self.codes(self.inputs(obs, action)))
        return aggregate(counts.to(obs.dtype), self._count_mode, self._count_coef)

    @torch.no_grad()
    def codes(self, inputs: torch.Tensor) -> torch.Tensor:
        """Every count elite's packed code of scaled inputs, (n, S+A) -> (M, n) int64."""
        members = self.count_elites
        packed = [
            pack_bits(self.coder.logits(trunk_features(self.model, rows, members), members) > 0)
            for rows in inputs.split(CHUNK)
        ]
        return torch.cat(packed, dim=1)

    def save(self, save_path: str) -> None:
        """Write the model, the scaler, the coder, the counts and their elites into a folder.

        Raises:
            UserError: nothing has been counted yet.
        """
        if self.table is None:
            raise UserError("nothing is counted yet: call train or load before save")
        super().save(save_path)
        save_atomically(self.coder.state_dict(), os.path.join(save_path, CODER_FILE))
        counted = {**self.table._asdict(), "elites": self.count_elites}
        save_atomically(counted, os.path.join(save_path, TABLE_FILE))

    def load(self, load_path: str) -> None:
        """Read a folder written by `save`; a refused one changes nothing.

        Raises:
            UserError: the folder lacks a part, or holds one of another network.
        """
        device = self.model.elites.device
        coder = read_weights(self.coder, os.path.join(load_path, CODER_FILE), device)
        elites, table = read_counts(os.path.join(load_path, TABLE_FILE), device)
        if int(elites.max()) >= self.model.num_ensemble:
            raise UserError(f"{load_path} counts under members that this model does not have")
        super().load(load_path)
        self.coder.load_state_dict(coder)
        self.count_elites, self.table = elites, table

    def _make_fit(
        self, train: Rows, holdout: Rows, batch_size: int, logvar_loss_coef: float
    ) -> CountFit:
        fit = CountFit(
            self.model, self.optim, train, holdout, batch_size, logvar_loss_coef, self.generator
        )
        fit.coder, fit.coder_optim, fit.scaler = self.coder, self.coder_optim, self.scaler
        return fit

    def _finish_fit(self, fit: EnsembleFit, errors: torch.Tensor) -> None:
        """Restore the best epochs, name both kinds of elites, count the training rows."""
        super()._finish_fit(fit, errors)
        assert isinstance(fit, CountFit)
        self.coder.load_save()
        order = fit.coder_errors().argsort(stable=True)
        self.count_elites = order[: self.model.num_elites]
        self.table = CountTable.of(self.codes(fit.train[0]))
