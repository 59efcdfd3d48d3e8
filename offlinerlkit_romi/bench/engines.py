"""Which engines carry out this package's steps in a benchmark, and what they are called."""

from __future__ import annotations

import torch

NAME = "ours"
LABELS = {"eager": NAME, "graph": "captured", "compile": "compiled"}
# a delayed actor makes two kinds of update, each captured when it first comes
WARM_UPS = {"eager": 1, "graph": 2, "compile": 2}


def engines_beside_eager(asked: str, device: torch.device) -> tuple[str, ...]:
    """Engines to time in turn with eager steps.

    Args:
        asked: `--engine`.
        device: Where steps run: graphs need CUDA.
    """
    if asked == "compile":
        return ("compile",)
    return ("graph",) if asked in ("auto", "graph") and device.type == "cuda" else ()


def label_of(engine: str) -> str:
    """Its column in the tables."""
    return LABELS[engine]
