"""Settings every test runs under."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

# two workers on two cores: more threads would only wait for each other
torch.set_num_threads(1)
# numeric tests compare with float64 restatements
torch.set_float32_matmul_precision("highest")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The test's own folder, which is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From its call on stderr is one; when fixtures are made it is not yet the test's own."""
    return lambda: monkeypatch.setattr("sys.stderr.isatty", lambda: True)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """From its call on, modules of these names are imported; None stands for none of the name."""

    def put(**modules: Any) -> None:
        for name, module in modules.items():
            monkeypatch.setitem(sys.modules, name, module)

    return put


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """From its call on we may run on so many."""
    return lambda count: monkeypatch.setattr(
        os, "sched_getaffinity", lambda process: set(range(count)), raising=False
    )


@pytest.fixture
def import_from(monkeypatch: pytest.MonkeyPatch) -> Callable[[Sequence[Path]], None]:
    """From its call on, modules are looked for in these folders first, here and in children."""

    def begin(folders: Sequence[Path]) -> None:
        for folder in reversed(folders):
            monkeypatch.syspath_prepend(str(folder))
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, folders)))

    return begin


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins are simulated in shards of 300 rows."""
    from offlinerlkit_romi.standins import recipes

    monkeypatch.setattr(recipes, "SHARD_ROWS", 300)


@pytest.fixture
def twins_together(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two critics are one product, as on CUDA, until the list is cleared."""
    from offlinerlkit_romi.modules import twins

    monkeypatch.setattr(twins, "WORTH_IT_ON", places := ["cpu"])
    return places


@pytest.fixture
def masked_model_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Model buffers of fixed shape, as on CUDA."""
    from offlinerlkit_romi.experiment import parts
    from offlinerlkit_romi.model_buffer import MaskedReplayBuffer

    def make(config: Any, setting: Any, free: Any) -> MaskedReplayBuffer:
        made = parts.make_buffer(parts.fake_buffer_rows(config), setting, MaskedReplayBuffer)
        assert isinstance(made, MaskedReplayBuffer)
        return made

    monkeypatch.setattr(parts, "make_model_buffer", make)
