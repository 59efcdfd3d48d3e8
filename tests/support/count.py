"""A small Count-MORL simulator and its data."""

from typing import Any

import numpy as np
import torch

from offlinerlkit_romi.dynamics import CountEnsembleDynamics
from offlinerlkit_romi.engine import make_adam
from offlinerlkit_romi.modules import HashCoder
from tests.support.policies import FLOAT64, generator, make_batch, make_dynamics


def trainable(module: torch.nn.Module) -> list[torch.Tensor]:
    return [p for p in module.parameters() if p.requires_grad]


def make_count_dynamics(
    seed: int = 0,
    num_bits: int = 6,
    decoder_out: str = "linear",
    dtype: torch.dtype = FLOAT64,
    members: int = 4,
    elites: int = 3,
    hidden_dims: tuple[int, ...] = (8, 7, 6),
    **kwargs: Any,
) -> CountEnsembleDynamics:
    plain = make_dynamics(
        members=members, elites=elites, hidden_dims=hidden_dims, seed=seed, dtype=dtype
    )
    coder = HashCoder(hidden_dims[1], 5, num_bits, members, decoder_out).to(dtype)
    kwargs.setdefault("generator", generator(seed + 1))
    return CountEnsembleDynamics(
        plain.model,
        make_adam(trainable(plain.model), 3e-3),
        plain.scaler,
        plain.terminal_fn,
        coder=coder,
        coder_optim=make_adam(trainable(coder), 3e-3),
        **kwargs,
    )


def dataset(rows: int = 60, seed: int = 3) -> dict[str, np.ndarray]:
    return {name: x.numpy() for name, x in make_batch(rows, seed=seed).items()}


def trained(epochs: int = 2, **kwargs: Any) -> CountEnsembleDynamics:
    dynamics = make_count_dynamics(**kwargs)
    dynamics.train(dataset(), max_epochs=epochs, batch_size=16)
    return dynamics
