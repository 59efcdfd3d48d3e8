"""Settings every test runs under."""

from __future__ import annotations

import torch

# two workers on two cores: more threads would only wait for each other
torch.set_num_threads(1)
# numeric tests compare with float64 restatements
torch.set_float32_matmul_precision("highest")
