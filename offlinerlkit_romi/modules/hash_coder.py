"""Count-MORL's hash codes: an auto-encoder of (s, a) with a binary middle, per ensemble member."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

from offlinerlkit_romi.nets import EnsembleLinear

DECODER_OUTS = ("linear", "swish")
# a code and the table's padding share one signed 64-bit integer
MAX_BITS = 62
# from here on the code is wide enough to do without the narrow layers around it (released code)
WIDE_BITS = 50


class HashCoder(nn.Module):
    """E auto-encoders of (s, a) on top of the dynamics members' features.

    Layers and weight decays are the released code's, the decays' middle entries filled in.

    Args:
        feature_dim: width of the features.
        output_dim: S+A, what is reconstructed.
        num_bits: length of the code, 1 to 62.
        num_ensemble: E.
        decoder_out: `linear`, which reconstructs standardised (s, a), or `swish` as released, which
            is to reconstruct raw (s, a) although it cannot go below -0.28.
        device: where the parameters live.

    Raises:
        ValueError: unknown `decoder_out`, or `num_bits` out of range.
    """

    def __init__(
        self,
        feature_dim: int,
        output_dim: int,
        num_bits: int = 50,
        num_ensemble: int = 7,
        decoder_out: str = "linear",
        device: str | torch.device = "cpu",
    ) -> None:
        super().__init__()
        if decoder_out not in DECODER_OUTS:
            raise ValueError(f"decoder_out is one of {DECODER_OUTS}: {decoder_out!r}")
        if not 1 <= num_bits <= MAX_BITS:
            raise ValueError(f"num_bits is {num_bits}: a code has 1 to {MAX_BITS} bits")
        self.num_bits = num_bits
        self.decoder_out = decoder_out
        narrow = [] if num_bits >= WIDE_BITS else [50]
        encoder = [feature_dim, 100, *narrow, num_bits]
        decoder = [num_bits, *narrow, 100, 100, output_dim]
        middle = len(encoder) + len(decoder) - 5
        decays = [7.5e-5, 7.5e-5, *[5e-5] * middle, 1e-5]
        layers = [
            EnsembleLinear(fan_in, fan_out, num_ensemble, decay)
            for (fan_in, fan_out), decay in zip(
                [*pairwise(encoder), *pairwise(decoder)], decays, strict=True
            )
        ]
        self.encoder = nn.ModuleList(layers[: len(encoder) - 1])
        self.decoder = nn.ModuleList(layers[len(encoder) - 1 :])
        self.to(device)

    @property
    def layers(self) -> list[EnsembleLinear]:
        """All linear layers, input to output."""
        return [*self.encoder, *self.decoder]

    def logits(self, features: torch.Tensor, members: torch.Tensor | None = None) -> torch.Tensor:
        """Codes before the sigmoid, (M, B, F) -> (M, B, bits); all members unless some are named.

        A bit is one where its logit is positive: the rounded sigmoid.
        """
        return self._run(self.encoder, features, members)

    def reconstruct(self, features: torch.Tensor) -> torch.Tensor:
        """(E, B, F) -> reconstruction (E, B, S+A) through the soft code."""
        output = self._run(self.decoder, torch.sigmoid(self.logits(features)))
        return F.silu(output) if self.decoder_out == "swish" else output

    def get_decay_loss(self) -> torch.Tensor:
        """Sum of the layers' L2 terms."""
        return torch.stack([layer.get_decay_loss() for layer in self.layers]).sum()

    def update_save(self, indexes: torch.Tensor) -> None:
        """Remember the present weights of these members."""
        for layer in self.layers:
            layer.update_save(indexes)

    def load_save(self) -> None:
        """Put the remembered weights back."""
        for layer in self.layers:
            layer.load_save()

    @staticmethod
    def _run(
        layers: nn.ModuleList, hidden: torch.Tensor, members: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Linear layers with swish between them."""
        for i, layer in enumerate(layers):
            hidden = F.silu(hidden) if i else hidden
            hidden = call_members(layer, hidden, members)
        return hidden


def call_members(
    layer: nn.Module, hidden: torch.Tensor, members: torch.Tensor | None
) -> torch.Tensor:
    """An `EnsembleLinear` through all members, or through those named."""
    assert isinstance(layer, EnsembleLinear)
    return layer(hidden) if members is None else layer.forward_members(hidden, members)


def pack_bits(bits: torch.Tensor) -> torch.Tensor:
    """Binary codes as integers, (..., bits) bool -> (...,) int64; the first bit is the lowest."""
    weights = torch.ones(bits.shape[-1], dtype=torch.int64, device=bits.device)
    weights <<= torch.arange(bits.shape[-1], device=bits.device)
    return (bits * weights).sum(-1)
