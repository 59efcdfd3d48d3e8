"""Settings every test runs under."""

from __future__ import annotations

from collections.abc import Callable
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
def twins_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two critics are one product, as on CUDA."""
    from offlinerlkit_romi.modules import twins

    monkeypatch.setattr(twins, "WORTH_IT_ON", ["cpu"])


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
