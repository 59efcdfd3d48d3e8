"""What torch 2.13 keeps of captures, without a GPU: pools, the current stream, generators' states.

As there, a capture that was invalidated ends with an error before its pool is told of the end, and
its stream stays current.
"""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.support.recording import HostSync, Recorder

DEVICE = torch.device("cuda", 0)


class FakeCuda:
    """Attributes: pools being recorded to, uses of each pool, and the current stream."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.recording: list[int] = []
        self.uses: Counter[int] = Counter()
        self.stream = "main"
        handles = count(1)
        self._put(patch, torch.cuda, device=lambda _: nullcontext())
        self._put(patch, torch.cuda, graph_pool_handle=lambda: next(handles))
        self._put(patch, torch.cuda, current_device=lambda: DEVICE.index)
        self._put(patch, torch.cuda, Stream=lambda _: FakeStream(self, "side"))
        self._put(patch, torch.cuda, current_stream=lambda: FakeStream(self, self.stream))
        self._put(patch, torch.cuda, set_stream=lambda stream: stream.__enter__())
        self._put(patch, torch.cuda, stream=lambda stream: stream)
        self._put(patch, torch.cuda, CUDAGraph=lambda: FakeGraph(self))
        self._put(patch, torch.cuda, graph=lambda graph, **how: Capture(graph, **how))
        self._put(patch, torch.cuda, default_generators=[FakeGenerator()])
        self._put(patch, torch._C, _cuda_endAllocateToPool=lambda _, pool: self.end(pool))
        self._put(patch, torch._C, _cuda_releasePool=lambda _, pool: self.release(pool))

    def begin(self, pool: int) -> None:
        self.uses[pool] += 1
        if pool in self.recording:
            raise RuntimeError("beginAllocateToPool: already recording to mempool_id")
        self.recording.append(pool)

    def end(self, pool: int) -> None:
        if pool not in self.recording:
            raise RuntimeError("endAllocatePool: not currently recording to mempool_id")
        self.recording.remove(pool)

    def release(self, pool: int) -> None:
        self.uses[pool] -= 1
        assert self.uses[pool] >= 0

    @staticmethod
    def _put(patch: pytest.MonkeyPatch, place: Any, **named: Any) -> None:
        for name, value in named.items():
            patch.setattr(place, name, value, raising=False)


class FakeStream:
    """A stream, and the context in which it is the current one."""

    def __init__(self, cuda: FakeCuda, name: str) -> None:
        self.cuda, self.name = cuda, name

    def wait_stream(self, _: FakeStream) -> None:
        """Nothing runs at its own time here."""

    def __enter__(self) -> None:
        self.before, self.cuda.stream = self.cuda.stream, self.name

    def __exit__(self, *_: Any) -> None:
        self.cuda.stream = self.before


class FakeGenerator:
    """A generator whose state is an object that graphs know, and that can be another one."""

    def __init__(self, draws: int = 0) -> None:
        self.state = SimpleNamespace(draws=draws)

    def clone_state(self) -> FakeGenerator:
        return FakeGenerator(self.state.draws)

    def graphsafe_set_state(self, other: FakeGenerator) -> None:
        self.state = other.state


class FakeGraph:
    """A graph: its replay draws from the states it was registered with, then does what it saw."""

    def __init__(self, cuda: FakeCuda) -> None:
        self.cuda, self.pool, self.recorder = cuda, 0, Recorder()
        self.states: list[Any] = []

    def register_generator_state(self, generator: FakeGenerator) -> None:
        self.states.append(generator.state)

    def replay(self) -> None:
        for state in self.states:
            state.draws += 1
        self.recorder.replay()

    def reset(self) -> None:
        if self.pool:
            self.cuda.release(self.pool)
            self.pool = 0

    def __del__(self) -> None:
        self.reset()


class Capture:
    """`torch.cuda.graph`."""

    def __init__(
        self, graph: FakeGraph, *, pool: int, stream: FakeStream, capture_error_mode: str
    ) -> None:
        assert capture_error_mode == "thread_local"
        self.graph, self.pool, self.stream = graph, pool, stream

    def __enter__(self) -> None:
        self.stream.__enter__()
        self.graph.cuda.begin(self.pool)
        self.graph.recorder.__enter__()

    def __exit__(self, kind: Any, *rest: Any) -> None:
        self.graph.recorder.__exit__(kind, *rest)
        if kind is not None and issubclass(kind, HostSync):
            raise RuntimeError("operation failed due to a previous error during capture")
        self.graph.cuda.end(self.pool)
        self.graph.pool = self.pool
        self.stream.__exit__()
