"""What the modules share."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

ArrayLike = np.ndarray | torch.Tensor


def as_input(x: ArrayLike, module: nn.Module) -> torch.Tensor:
    """`x` as a tensor of the module's dtype on its device; a fitting tensor is passed through."""
    parameter = next(module.parameters())
    return torch.as_tensor(x, dtype=parameter.dtype, device=parameter.device)
