"""A run as it is built, in plain values: where two runs differ can be told by its place."""

from __future__ import annotations

import hashlib
import re
import types
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.hooks import RemovableHandle

from offlinerlkit_romi.data import Dataset
from offlinerlkit_romi.engine import Engine
from offlinerlkit_romi.experiment import lifecycle
from offlinerlkit_romi.experiment import parts as parts_module
from offlinerlkit_romi.experiment.config import RunConfig
from offlinerlkit_romi.experiment.context import Context
from offlinerlkit_romi.experiment.resolve import Resolved
from offlinerlkit_romi.experiment.run import run
from offlinerlkit_romi.policy_trainer import PolicyTrainer
from offlinerlkit_romi.policy_trainer.timing import PhaseTimer
from offlinerlkit_romi.utils.logger import Logger
from tests.experiment.conftest import make_dataset

# they hold every setting, used or not; and what tells the time
OPAQUE = (
    RunConfig,
    Resolved,
    Context,
    Logger,
    Dataset,
    PhaseTimer,
    RemovableHandle,
    types.ModuleType,
    type,
)
TIMES = {"_start", "_spent", "_last"}
STAMP = re.compile(r"timestamp_[-\d]+")


class Built(Exception):
    """Raised where training would begin."""


def built(resolved: Resolved, root: Path) -> dict[str, str]:
    """Build a run, its model's fit included and its training not: place to value.

    The trainer with all that it reaches, what was asked of the data and of the process, and the
    files that are there.
    """
    seen: dict[str, Any] = {}

    def stop(trainer: PolicyTrainer) -> None:
        seen["trainer"] = trainer
        raise Built

    def load(*args: Any, **values: Any) -> Dataset:
        seen["load"] = args, values
        return make_dataset()

    def examined(dataset: Dataset, task: Any) -> Dataset:
        seen["examined"], seen["task"] = True, task
        return dataset

    def engine(kind: str, *_: Any) -> Engine:  # compiling takes half a minute
        seen["engine"] = kind
        return Engine()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lifecycle, "load", load)
        patch.setattr(lifecycle, "examined", examined)
        patch.setattr(lifecycle, "keep_freed_memory", lambda: None)
        # a device whose memory is counted
        patch.setattr(parts_module, "free_bytes", lambda _: 10**12)
        patch.setattr(
            lifecycle, "choose_matmul_precision", lambda *told: seen.update(precision=told)
        )
        patch.setattr(torch, "set_num_threads", seen.setdefault("threads", []).append)
        patch.setattr(PolicyTrainer, "train", stop)
        with suppress(Built):
            run(resolved, [], make_engine=engine)
    seen["files"] = sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.suffix)
    found = {
        place: STAMP.sub("", text.replace(str(root), "")) for place, text in walk(seen, "", {})
    }
    return {place: text for place, text in found.items() if "tfevents" not in text}


def walk(thing: Any, place: str, seen: dict[int, Any]) -> Iterator[tuple[str, str]]:
    """The plain values in an object, each by its place, everything entered once."""
    if thing is None or isinstance(thing, bool | int | float | str | Path | torch.device):
        yield place, repr(thing)
    elif isinstance(thing, torch.Tensor | np.ndarray):
        array = thing.detach().cpu().numpy() if isinstance(thing, torch.Tensor) else thing
        digest = hashlib.sha1(array.tobytes()).hexdigest()
        yield place, f"{array.dtype} {array.shape} {digest}"
    elif isinstance(thing, torch.Generator):
        yield from walk(thing.get_state(), place, seen)
    elif id(thing) in seen or isinstance(thing, OPAQUE):
        yield place, type(thing).__name__
    else:
        seen[id(thing)] = thing  # kept, so that its id stays its own
        yield place, getattr(thing, "__qualname__", type(thing).__qualname__)
        for name, part in parts(thing):
            yield from walk(part, f"{place}.{name}", seen)


def parts(thing: Any) -> Iterator[tuple[str, Any]]:
    """What an object consists of."""
    if isinstance(thing, Mapping):
        # a hook's number counts the hooks of the process
        named = enumerate(thing.items())
        yield from ((str(i if isinstance(n, int) else n), part) for i, (n, part) in named)
    elif isinstance(thing, tuple | list | set):
        yield from ((str(number), part) for number, part in enumerate(thing))
    elif isinstance(thing, partial):
        yield from (("func", thing.func), ("args", thing.args), ("keywords", thing.keywords))
    elif isinstance(thing, types.MethodType):
        yield "self", thing.__self__
    elif isinstance(thing, types.FunctionType):
        cells = thing.__closure__ or ()
        yield from zip(thing.__code__.co_freevars, (c.cell_contents for c in cells), strict=True)
    else:
        names = [*getattr(thing, "__dict__", ()), *getattr(type(thing), "__slots__", ())]
        yield from ((n, getattr(thing, n, None)) for n in names if n not in TIMES)
