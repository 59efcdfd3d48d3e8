"""A capture that fails costs its own step, and nothing that was or will be captured."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch

from offlinerlkit_romi.engine import make_engine
from offlinerlkit_romi.engine.capture import WARM_UPS, CudaGraphs
from tests.engine.fake_cuda import DEVICE, FakeCuda, FakeGenerator, FakeGraph
from tests.support.stopping import before

Step = Callable[[], None]


@pytest.fixture
def cuda(monkeypatch) -> FakeCuda:
    return FakeCuda(monkeypatch)


def sound(x: torch.Tensor) -> Step:
    def step() -> None:
        x.add_(1)

    return step


def waiting(x: torch.Tensor) -> Step:
    """Invalidates its capture."""

    def step() -> None:
        x.add_(1)
        x.sum().item()

    return step


def raising(x: torch.Tensor) -> Step:
    """Fails while it is captured, which the capture itself survives."""
    calls: list[int] = []

    def step() -> None:
        calls.append(1)
        if len(calls) == WARM_UPS + 1:
            raise ValueError("no such row")
        x.add_(1)

    return step


@pytest.mark.parametrize("breaks", [waiting, raising])
def test_a_failed_capture_costs_its_own_step_alone(breaks, cuda) -> None:
    told: list[str] = []
    engine = make_engine("graph", DEVICE, told.append)
    xs = [torch.zeros(2) for _ in range(4)]
    steps = [
        engine.steps(f"step {i}", kind(x), lambda x=x: {"x": x})
        for i, (kind, x) in enumerate(zip((sound, breaks, sound, sound), xs, strict=True))
    ]
    for _ in range(3):
        for step in steps:
            step()
    assert [step.captured for step in steps] == [True, False, True, True]
    assert len(told) == 1 and told[0].startswith("step 1 runs eagerly: capturing it failed: ")
    assert [x.tolist() for x in xs] == [[3, 3]] * 4
    assert cuda.stream == "main" and cuda.recording == []


def test_a_failed_capture_leaves_no_pool_in_use(cuda) -> None:
    engine = make_engine("graph", DEVICE)
    kinds = (sound, waiting, raising, waiting, sound)
    steps = [engine.steps("a step", kind(torch.zeros(2)), dict) for kind in kinds]
    for step in steps:
        step()
    assert sum(cuda.uses.values()) == 2  # by the two that were captured
    engine.forget()
    assert sum(cuda.uses.values()) == 0


def test_earlier_graphs_and_later_draws_share_a_generator_after_a_failed_capture(cuda) -> None:
    graphs, draws = CudaGraphs(DEVICE), FakeGenerator()
    generators: Any = [draws]
    replay = graphs.capture(sound(torch.zeros(2)), generators, lambda: None)
    with pytest.raises(RuntimeError):
        graphs.capture(waiting(torch.zeros(2)), generators, lambda: None)
    replay()
    assert draws.state.draws == 1


def test_a_graph_whose_capture_broke_off_outlives_its_engine(cuda) -> None:
    """torch's allocator of pinned memory goes on asking it, and would read what was freed."""
    made: list[Any] = []
    with before(FakeGraph, "__init__", lambda graph, *_: made.append(weakref.ref(graph))):
        make_engine("graph", DEVICE).steps("a step", waiting(torch.zeros(2)), dict)()
    (graph,) = made
    assert graph() is not None
