"""A CPU stand-in for CUDA graphs: refuses what a capture refuses, replays on fixed memory."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from offlinerlkit_romi.engine import Engine
from offlinerlkit_romi.engine.capture import MOST_UNROLLED

# ops whose result, or whose result's shape, the host must wait for, and values it must bring along
SYNCS = (
    *("_local_scalar_dense", "item", "is_nonzero", "equal", "nonzero", "nonzero_numpy", "argwhere"),
    *("masked_select", "unique_dim", "unique_consecutive", "_unique", "_unique2", "bincount"),
    *("repeat_interleave.Tensor", "lift_fresh", "_assert_async", "combinations", "histc"),
    *("allclose", "_linalg_check_errors", "histogram"),
)
INDEXING = ("index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index")


class HostSync(RuntimeError):
    """What CUDA says as "operation not permitted when stream is capturing"."""


class CaptureGuard(TorchDispatchMode):
    """Refuses every op that could not be captured; remembers the others' names."""

    def __init__(self) -> None:
        super().__init__()
        self.ops: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        kwargs = kwargs or {}
        self.ops.append(str(func))
        refuse(func, args, kwargs)
        return func(*args, **kwargs)


def refuse(func: Any, args: Any, kwargs: Any) -> None:
    """Raise `HostSync` for an op that a capture would not allow."""
    name, overload = func._schema.name.split("::")[1], f"{func._schema.name}.{func._overloadname}"
    if name in SYNCS or overload.split("::")[1] in SYNCS:
        raise HostSync(f"{overload} waits for the device or brings a value to it")
    leaves = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
    indices = args[1] if name in INDEXING else ()
    if any(x is not None and x.dtype in (torch.bool, torch.uint8) for x in indices):
        raise HostSync(f"{overload} with a mask: the number of rows depends on the data")
    if name == "_to_copy" and torch.device(kwargs.get("device") or leaves[0].device) != (
        leaves[0].device
    ):
        raise HostSync(f"{overload} copies between devices")


class Recorder(CaptureGuard):
    """Records ops with the very tensors they read and wrote."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, tuple[Any, ...], dict[str, Any], Any]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        kwargs = kwargs or {}
        refuse(func, args, kwargs)
        out = func(*args, **kwargs)
        self.calls.append((func, args, kwargs, out))
        return out

    @torch.no_grad()
    def replay(self) -> None:
        """Run the ops again on the same memory, as a CUDA graph does."""
        for func, args, kwargs, out in self.calls:
            fresh = func(*args, **kwargs)
            for old, new in zip(tree_leaves(out), tree_leaves(fresh), strict=True):
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                    old.detach().copy_(new)


class RecordedGraphs:
    """`CudaGraphs` for the CPU: a warm-up, then a recording; its caller undoes what it did.

    Args:
        refused_after: captures that succeed before one fails; none means all succeed.
    """

    records, live, most = True, False, MOST_UNROLLED

    def __init__(self, refused_after: int | None = None) -> None:
        self.captures = self.replays = 0
        self._refused_after = refused_after

    def capture(
        self, body: Callable[[], None], generators: list[torch.Generator], rewind: Any
    ) -> Callable[[], None]:
        """What `CudaGraphs.capture` does."""
        body()
        rewind()
        if self._refused_after is not None and self.captures >= self._refused_after:
            body()
            raise RuntimeError("operation not permitted\nand what the driver adds")
        self.captures += 1
        with Recorder() as recorder:
            body()

        def replay() -> None:
            self.replays += 1
            recorder.replay()

        return replay


class RecordedEngines:
    """Engines as `make_engine` makes them, on recorded graphs but where they shall be eager.

    Attributes:
        made: The graphs of each that captures.
    """

    def __init__(self, **options: Any) -> None:
        self.options, self.made = options, list[RecordedGraphs]()

    def make(self, mode: str, device: torch.device, tell: Callable[[str], None]) -> Engine:
        if mode == "eager":
            return Engine(None, tell)
        self.made.append(RecordedGraphs(**self.options))
        return Engine(self.made[-1], tell)


def pointers(state: dict[str, Any]) -> dict[str, int]:
    """Address of every tensor of a `training_state()`."""
    found: dict[str, int] = {}
    for name, part in state.items():
        if isinstance(part, torch.Tensor):
            found[name] = part.data_ptr()
        elif isinstance(part, torch.nn.Module):
            tensors = dict(part.named_parameters()) | dict(part.named_buffers())
            found |= {f"{name}.{key}": x.data_ptr() for key, x in tensors.items()}
        elif isinstance(part, torch.optim.Optimizer):
            for i, moments in enumerate(part.state.values()):
                found |= {f"{name}.{i}.{k}": x.data_ptr() for k, x in moments.items()}
    return found


@contextmanager
def guarded():  # type: ignore[no-untyped-def]
    """Run something as if it were being captured."""
    with CaptureGuard() as guard:
        yield guard
