"""Steps recorded once and played again on fixed memory: a CPU's graphs.

A small network's step is mostly what happens between its kernels: modules, autograd, views, memory
for results. A tape is the list of kernels that a step called, in their order and with the tensors
they read and wrote; playing it calls them alone, so that every bit is the step's.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

Body = Callable[[], None]
Tensors = dict[str, torch.Tensor]
# what becomes of a tensor that these make depends on its shape alone
OF_A_SHAPE = ("ones_like", "zeros_like", "full_like", "new_ones", "new_zeros", "new_full")
_THREAD = threading.local()


def afresh(make: Callable[[], Tensors]) -> Tensors:
    """What `make` gives; a tape that is played asks it again.

    For what depends on numbers of the host, such as the rows a buffer holds by now.
    """
    recorder: _Recorder | None = getattr(_THREAD, "recorder", None)
    return make() if recorder is None else recorder.ask(make)


class Tapes:
    """What records steps; see `Graphs`."""

    records, live, most = True, True, 1

    def __init__(self) -> None:
        # no tape leaves anything in it, so it does not matter which is played when
        self._memory = defaultdict[int, list[torch.UntypedStorage]](list)

    def capture(self, body: Body, generators: list[torch.Generator], rewind: Body) -> Body:
        """See `Graphs`."""
        body()  # lazy state
        rewind()
        for generator in generators:  # with other draws than those it will be compared on
            torch.rand((), generator=generator)
        with _Recorder() as recorder:
            body()
        return partial(_play, list(_arranged(recorder.calls, self._memory)))


@dataclass
class _Call:
    """A kernel, or something the host is asked, and what it was called with."""

    func: Any
    args: Any
    kwargs: dict[str, Any]
    made: list[torch.Tensor]
    asked: bool = False

    @cached_property
    def written(self) -> list[torch.Tensor]:
        """The arguments that it changes."""
        if self.asked:
            return []
        return _tensors(
            [
                self.args[i] if i < len(self.args) else self.kwargs.get(argument.name)
                for i, argument in enumerate(self.func._schema.arguments)
                if argument.alias_info is not None and argument.alias_info.is_write
            ]
        )

    @property
    def draws(self) -> bool:
        return self.asked or torch.Tag.nondeterministic_seeded in self.func.tags

    @cached_property
    def read(self) -> list[torch.Tensor]:
        """All tensors among the arguments."""
        return _tensors((self.args, self.kwargs))


class _Recorder(TorchDispatchMode):
    """Remembers the kernels that are called, with their tensors.

    Attributes:
        calls: They, in order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[_Call] = []
        self._hears = True

    def __enter__(self) -> _Recorder:
        _THREAD.recorder = self
        super().__enter__()
        return self

    def __exit__(self, *raised: Any) -> None:
        _THREAD.recorder = None
        super().__exit__(*raised)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        _refuse(func, args)
        out = func(*args, **kwargs)
        if self._hears and func.namespace != "profiler":
            self.calls.append(_Call(func, args, kwargs, _tensors(out)))
        return out

    def ask(self, make: Callable[[], Tensors]) -> Tensors:
        """What the host gives, to be asked for again."""
        self._hears = False
        try:
            made = make()
        finally:
            self._hears = True
        self.calls.append(_Call(make, (), {}, list(made.values()), asked=True))
        return made


def _refuse(func: Any, args: Any) -> None:
    """Raise for what the host waits for, or what has a shape of its own every time."""
    masked = func.namespace == "aten" and func._schema.name == "aten::index"
    masks = [x for x in tree_leaves(args[1:]) if getattr(x, "dtype", None) == torch.bool]
    shape = torch.Tag.dynamic_output_shape in func.tags and (masks or not masked)
    if shape or torch.Tag.data_dependent_output in func.tags:
        raise RuntimeError(f"{func} depends on a tensor's values")


def _play(calls: Sequence[tuple[Callable[..., Any], Any, Any]]) -> None:
    with torch.inference_mode():  # nothing in between asks who needs a gradient
        for call, args, kwargs in calls:
            call(*args, **kwargs)


def _arranged(
    calls: Sequence[_Call], free: dict[int, list[torch.UntypedStorage]]
) -> Iterator[tuple[Callable[..., Any], Any, Any]]:
    """What is to be called, with tensors in memory that is used again as soon as it may be.

    Args:
        calls: what was recorded.
        free: memory to use, by its size; lies there again afterwards.
    """
    calls, own = _needed(calls)
    last = {place: i for i, call in enumerate(calls) for place in _places(call.made, call.read)}
    given: dict[int, torch.UntypedStorage] = {}

    def moved(x: torch.Tensor) -> torch.Tensor:
        memory = given.get(_place(x))
        if memory is None:
            return x.detach()
        empty = torch.empty(0, dtype=x.dtype)
        return empty.set_(memory, x.storage_offset(), x.shape, x.stride())

    for i, call in enumerate(calls):
        places = _places(call.made, call.read)
        for place, x in places.items():
            if place in own and place not in given:
                size = x.untyped_storage().nbytes()
                given[place] = free[size].pop() if free[size] else torch.UntypedStorage(size)
        if call.asked or not _makes_nothing(call.func):
            yield _into_place(call, partial(tree_map_only, torch.Tensor, moved))
        for place in places:
            if place in own and last[place] == i:
                free[given[place].nbytes()].append(given[place])


def _needed(calls: Sequence[_Call]) -> tuple[list[_Call], set[int]]:
    """The calls that change something in the end, and the memory that is theirs alone."""
    written = {_place(x) for call in calls for x in call.written}
    own, kernels = set[int](), list[_Call]()
    for call in calls:
        new = _places(call.made).keys() - _places(call.read).keys()
        if not new and not call.written and not call.draws:
            continue  # a view: the tensor itself says where it looks
        shape_alone = not call.read or _name(call.func) in OF_A_SHAPE
        if shape_alone and not call.draws and not new & written:
            continue  # a constant: it stays where it was made
        own |= new
        kernels.append(call)
    wanted, kept = set[int](), list[_Call]()
    for call in reversed(kernels):
        changed = _places(call.made, call.written).keys()
        if call.draws or changed & wanted or changed - own:
            wanted |= _places(call.read).keys()
            kept.append(call)
    return kept[::-1], own


def _into_place(call: _Call, moved: Callable[..., Any]) -> tuple[Callable[..., Any], Any, Any]:
    """The call with its results put where they belong."""
    made = moved(call.made)
    if call.asked:
        return _copy, (made, call.func), {}
    args, kwargs = moved((call.args, call.kwargs))
    if call.written:
        return call.func._op, args, kwargs
    direct, outs = _out_variant(call.func)
    if direct is None:
        return _copy, (made, partial(call.func._op, *args, **kwargs)), {}
    if outs[0].type.kind() == "ListType":
        return direct._op, args, kwargs | {outs[0].name: made}
    return direct._op, args, kwargs | {out.name: x for out, x in zip(outs, made, strict=True)}


def _copy(made: list[torch.Tensor], make: Callable[[], Any]) -> None:
    with torch.inference_mode(False), torch.no_grad():  # what it makes for itself, it may keep
        fresh = make()
    for old, new in zip(made, _tensors(fresh), strict=True):
        old.copy_(new)


@cache
def _out_variant(func: Any) -> tuple[Any, list[Any]]:
    """The overload that takes the same and where to write it, and these arguments; or none."""
    takes = [(a.name, str(a.type)) for a in func._schema.arguments]
    packet = func._overloadpacket
    for other in (getattr(packet, name) for name in packet.overloads()):
        outs = [a for a in other._schema.arguments if a.is_out]
        rest = [(a.name, str(a.type)) for a in other._schema.arguments if not a.is_out]
        if outs and rest == takes:
            return other, outs
    return None, []


def _makes_nothing(func: Any) -> bool:
    return _name(func) in ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided")


def _name(func: Any) -> str:
    return str(func._schema.name).split("::")[1] if hasattr(func, "_schema") else ""


def _tensors(values: Any) -> list[torch.Tensor]:
    return [x for x in tree_leaves(values) if isinstance(x, torch.Tensor)]


def _place(x: torch.Tensor) -> int:
    """Which memory it looks at."""
    return x.untyped_storage()._cdata


def _places(*groups: list[torch.Tensor]) -> dict[int, torch.Tensor]:
    return {_place(x): x for group in groups for x in group}
