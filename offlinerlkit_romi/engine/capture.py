"""Steps that run as captured CUDA graphs, or eagerly where they cannot.

A step is a function of the host that changes tensors in place and leaves nothing behind but them:
then every replay of its graph does what the function would have done. Random draws come from
generators that the graph knows, rates of optimisers are tensors, and what the host counts beside
the device is kept in `Counts`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterable, Mapping
from contextlib import suppress
from copy import deepcopy
from functools import partial
from typing import Any, NamedTuple, Protocol
from weakref import WeakSet

import torch

from offlinerlkit_romi.engine.state import Counts, alike, capture, restore
from offlinerlkit_romi.engine.tape import Tapes

# updates per replay: beyond this a launch of the graph costs nothing against its contents
MOST_UNROLLED = 32
MOST_COMPILED = 256  # versions of one function; torch's own limit is 8
WARM_UPS = 3  # lazy state, kernels chosen at first use, workspaces
Body = Callable[[], None]
# captures of several threads would be mixed up
_CAPTURING = threading.Lock()
# torch's allocator of pinned memory goes on asking them whether a stream is theirs
_BROKEN: list[torch.cuda.CUDAGraph] = []


class Graphs(Protocol):
    """What turns a step into something that is replayed."""

    # whether a step is recorded once with the numbers the host had, as compiled code is not
    records: bool
    # whether a capture does the step itself, and a replay asks again for what is made `afresh`
    live: bool
    most: int  # updates per replay

    def capture(self, body: Body, generators: list[torch.Generator], rewind: Body) -> Body:
        """Warm up with `body`, undone by `rewind`, then capture it; returns the replay."""


class CudaGraphs:
    """CUDA graphs of one device.

    All share a memory pool: none leaves anything in it, so it does not matter which runs when.
    After a capture that failed the later ones share a new one. What torch keeps of such a capture,
    and that its generators need no repair, is known of torch 2.13, which the package requires.
    """

    records, live, most = True, False, MOST_UNROLLED

    def __init__(self, device: torch.device) -> None:
        self._device = device
        with torch.cuda.device(device):
            self._pool = torch.cuda.graph_pool_handle()
            self._stream = torch.cuda.Stream(device)

    def capture(self, body: Body, generators: list[torch.Generator], rewind: Body) -> Body:
        """See `Graphs`."""
        with _CAPTURING, torch.cuda.device(self._device):
            current = torch.cuda.current_stream()
            self._stream.wait_stream(current)
            with torch.cuda.stream(self._stream):
                for _ in range(WARM_UPS):
                    body()
                    rewind()
            current.wait_stream(self._stream)
            return self._capture(body, generators)

    def _capture(self, body: Body, generators: list[torch.Generator]) -> Body:
        current, graph = torch.cuda.current_stream(), torch.cuda.CUDAGraph()
        for generator in generators:
            graph.register_generator_state(generator)
        try:
            # another thread may go on with work of its own meanwhile
            with torch.cuda.graph(
                graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
            ):
                body()
        except BaseException:
            torch.cuda.set_stream(current)  # a broken capture leaves its own
            self._give_up(graph)
            raise
        return graph.replay

    def _give_up(self, graph: torch.cuda.CUDAGraph) -> None:
        """Leave nothing of a broken capture to the next one, nor to graphs there are."""
        graph.reset()
        _BROKEN.append(graph)
        device = torch.cuda.current_device()
        with suppress(RuntimeError):  # where the capture itself ended, so did this
            torch._C._cuda_endAllocateToPool(device, self._pool)
            torch._C._cuda_releasePool(device, self._pool)
        self._pool = torch.cuda.graph_pool_handle()


class Compiler:
    """`torch.compile` in the place of a graph; its kernels may round otherwise than eager ones."""

    # a compiler would take its time for every copy of a step
    records, live, most = False, False, 1

    def capture(self, body: Body, generators: list[torch.Generator], rewind: Body) -> Body:
        """See `Graphs`."""
        body()  # what is made at the first call alone is not to be compiled for
        rewind()
        compiled: Body = torch.compile(body, dynamic=False)

        config = torch._dynamo.config

        def run() -> None:
            # else every gradient would part the compiled code; a process may hold many runs, each
            # of which compiles the same functions for itself
            with config.patch(trace_autograd_ops=True, recompile_limit=MOST_COMPILED):
                compiled()

        run()
        return run


class Engine:
    """How the steps of a run are carried out.

    Args:
        graphs: what captures them; none runs them eagerly.
        tell: hears one line per step that runs eagerly after all, and why.

    Attributes:
        shared: what any step may change beside its own state, by name.
        kind: what a replay of so many updates depends on beside its arguments, as the host counts.
    """

    def __init__(
        self, graphs: Graphs | None = None, tell: Callable[[str], None] = lambda _: None
    ) -> None:
        self.graphs, self.tell = graphs, tell
        self.shared: dict[str, Any] = {}
        self.kind: Callable[[int], Hashable] = lambda updates: ()
        # whoever takes a step keeps it, and with it what it works on
        self._steps: WeakSet[Steps] = WeakSet()

    @property
    def captures(self) -> bool:
        """Whether steps are captured at all."""
        return self.graphs is not None

    @property
    def records(self) -> bool:
        """Whether a captured step goes on with the numbers that the host had at its capture."""
        return self.graphs is not None and self.graphs.records

    @property
    def live(self) -> bool:
        """Whether what is made `afresh` follows the host all the same."""
        return self.graphs is None or self.graphs.live

    def unrolled(self, period: int) -> int:
        """Steps per replay where something else may be due every `period` steps."""
        return max(n for n in range(1, self._most() + 1) if period % n == 0)

    def portions(self, count: int, unit: int = 1) -> list[int]:
        """`count` steps in portions of a replay each, alike but for the last; units stay whole."""
        each = max(self._most() // unit, 1) * unit if self.captures else max(count, 1)
        rest = count % each
        return [each] * (count // each) + [rest] * (rest > 0)

    def _most(self) -> int:
        return 1 if self.graphs is None else self.graphs.most

    def steps(
        self,
        name: str,
        body: Callable[..., None],
        parts: Callable[[], Mapping[str, Any]],
        obstacle: str = "",
    ) -> Steps:
        """A step that this engine carries out.

        Args:
            name: what it is called in messages.
            body: the step; its arguments, all hashable, decide which graph is meant. The first is
                how many updates it does, if not one.
            parts: everything that it changes: modules, optimisers, tensors, generators, `Counts`,
                and what has a `state_dict` that restores in place.
            obstacle: why it cannot be captured, if so.
        """
        steps = Steps(self, name, body, parts, obstacle)
        self._steps.add(steps)
        return steps

    def forget(self) -> None:
        """Drop all graphs: the next call captures anew, on whatever tensors there are then."""
        for steps in self._steps:
            steps.forget()


class Steps:
    """A step of an `Engine`: call it with the arguments of its body."""

    def __init__(
        self,
        engine: Engine,
        name: str,
        body: Callable[..., None],
        parts: Callable[[], Mapping[str, Any]],
        obstacle: str = "",
    ) -> None:
        self._engine, self._name, self._body, self._parts = engine, name, body, parts
        self._replays: dict[tuple[Hashable, ...], Body] = {}
        self.captured = engine.captures and not obstacle
        if obstacle and engine.captures:
            self._explain(obstacle)

    def __call__(self, *key: Hashable) -> None:
        """Do the step."""
        if not self.captured:
            self._body(*key)
            return
        kind = key, self._engine.kind(int(next(iter(key), 1)))  # type: ignore[call-overload]
        if kind not in self._replays:
            self._replays[kind] = self._capture(key)
        self._replays[kind]()

    def forget(self) -> None:
        """Drop the graphs."""
        self._replays.clear()

    def _capture(self, key: tuple[Hashable, ...]) -> Body:
        """A replay of the body; capturing leaves all state as it was."""
        graphs, body = self._engine.graphs, partial(self._body, *key)
        assert graphs is not None
        parts = {**self._engine.shared, **self._parts()}
        before = deepcopy(capture(parts))
        rewind = partial(restore, parts, before)
        try:
            replay = graphs.capture(body, _unique(parts.values()), rewind)
            counted = _gained(parts, before)
            run = partial(_replay, replay, counted)
            if graphs.live:
                rewind()
                _compare(run, partial(_replay, body, counted), parts, rewind)
        except Exception as error:  # what a driver refuses, and how it says so, differs
            rewind()
            self.captured = False
            self._explain(f"capturing it failed: {error}")
            return body
        rewind()
        return run

    def _explain(self, reason: str) -> None:
        first, *rest = [line.strip() for line in reason.splitlines() if line.strip()]
        if first.endswith(":") and rest:  # a heading alone
            first = f"{first} {rest[0]}"
        self._engine.tell(f"{self._name} runs eagerly: {first}")


def make_engine(
    mode: str, device: torch.device, tell: Callable[[str], None] = lambda _: None
) -> Engine:
    """The engine that `--engine` asks for.

    Args:
        mode: `eager`; `graph`, captured on CUDA and on tape elsewhere; `compile`; `auto`: `graph`.
        device: where the steps run.
        tell: see `Engine`.
    """
    if mode == "compile":
        return Engine(Compiler(), tell)
    if mode == "eager":
        return Engine(None, tell)
    return Engine(CudaGraphs(device) if device.type == "cuda" else Tapes(), tell)


class _Counted(NamedTuple):
    """What one part counts in a step."""

    counts: Counts
    start: Mapping[str, int]  # when the step was captured
    gained: Mapping[str, int]


def _replay(replay: Body, counted: list[_Counted]) -> None:
    now = [dict(part.counts) for part in counted]
    # compiled code holds for the numbers it was compiled with: it is to meet no others
    for part in counted:
        part.counts.load_state_dict(part.start)
    replay()
    for part, numbers in zip(counted, now, strict=True):
        part.counts.load_state_dict(numbers)
        part.counts.update(part.gained)


def _compare(replay: Body, body: Body, parts: Mapping[str, Any], rewind: Body) -> None:
    """A replay must do what the step does, to the bit.

    Raises:
        RuntimeError: it does something else.
    """
    states = []
    for step in (body, replay):
        step()
        states.append(deepcopy(capture(parts)))
        rewind()
    if not alike(*states):
        raise RuntimeError("its replay does something else: it depends on what only the host knows")


def _gained(parts: Mapping[str, Any], before: Mapping[str, Any]) -> list[_Counted]:
    """What the host has counted since `before`, for each part that counts."""
    found: list[_Counted] = []
    for name, part in parts.items():
        counts = part if isinstance(part, Counts) else getattr(part, "counts", None)
        if isinstance(counts, Counts):
            old = before[name] if counts is part else before[name]["counts"]
            gained = {k: n - old.get(k, 0) for k, n in counts.items()}
            found.append(_Counted(counts, old, gained))
    return found


def _unique(parts: Iterable[Any]) -> list[torch.Generator]:
    generators = {id(part): part for part in parts if isinstance(part, torch.Generator)}
    return list(generators.values())
