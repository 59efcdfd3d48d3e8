"""Losses of the Gaussian ensemble, as functions of its outputs."""

from __future__ import annotations

import math

import torch

from offlinerlkit_romi.modules import EnsembleDynamicsModel


def gaussian_nll(mean: torch.Tensor, logvar: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """(E, B, D), (E, B, D), (B, D) or (E, B, D) -> (E, B).

    Mean over D of (mu - y)^2 exp(-logvar) + logvar: twice the negative log-density, up to a
    constant (kit behaviour).
    """
    return ((mean - target).square() * torch.exp(-logvar) + logvar).mean(-1)


def regulariser(model: EnsembleDynamicsModel, logvar_loss_coef: float) -> torch.Tensor:
    """Weight decay plus the pull that keeps the log-variance bounds together (kit behaviour)."""
    bounds = model.max_logvar.sum() - model.min_logvar.sum()
    return model.get_decay_loss() + logvar_loss_coef * bounds


def supervised_loss(
    model: EnsembleDynamicsModel,
    inputs: torch.Tensor,
    target: torch.Tensor,
    logvar_loss_coef: float,
) -> torch.Tensor:
    """Maximum-likelihood loss, a scalar: sum over members of the batch mean, plus the regulariser.

    Args:
        model: the ensemble.
        inputs: scaled (s, a), (B, S+A) or (E, B, S+A).
        target: [delta obs, reward], (B, D) or (E, B, D).
        logvar_loss_coef: factor of the log-variance bound term.
    """
    mean, logvar = model(inputs)
    return gaussian_nll(mean, logvar, target).mean(1).sum() + regulariser(model, logvar_loss_coef)


def gaussian_log_prob(
    mean: torch.Tensor, logvar: torch.Tensor, sample: torch.Tensor
) -> torch.Tensor:
    """Joint log-density of a sample over D, (E, B, D), (E, B, D), (B, D) -> (E, B)."""
    quadratic = (sample - mean).square() * torch.exp(-logvar)
    return -0.5 * (quadratic + logvar + math.log(2 * math.pi)).sum(-1)


def gaussian_kl(
    mean: torch.Tensor, logvar: torch.Tensor, new_mean: torch.Tensor, new_logvar: torch.Tensor
) -> torch.Tensor:
    """KL( N(mean, e^logvar) || N(new_mean, e^new_logvar) ) of every output, (..., D), in nats."""
    change = logvar - new_logvar
    distance = (mean - new_mean).square() * torch.exp(-new_logvar)
    return 0.5 * (change.exp() + distance - 1 - change)


def mixture_log_prob(log_probs: torch.Tensor) -> torch.Tensor:
    """Log of the mean density over members, (M, B) -> (B, 1), in log space throughout.

    The kit takes exp, mean and log in float64, which is -inf below a log-density of about -745.
    """
    return (torch.logsumexp(log_probs, 0) - math.log(len(log_probs))).unsqueeze(-1)
