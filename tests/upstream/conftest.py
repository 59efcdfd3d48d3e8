"""The kit where it is, and a place to run its scripts in."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.upstream.kit import KitAbsent, kit_checkout, load_kit


@pytest.fixture
def kit() -> SimpleNamespace:
    """The kit's names."""
    try:
        return load_kit()
    except KitAbsent as absent:
        pytest.skip(str(absent))


@pytest.fixture
def checkout() -> Path:
    """The kit's folder."""
    try:
        return kit_checkout()
    except KitAbsent as absent:
        pytest.skip(str(absent))


@pytest.fixture
def sandbox(here: Path) -> Iterator[Path]:
    """The scripts write under the working directory and seed whatever there is to seed."""
    deterministic = torch.backends.cudnn.deterministic
    numpy_state = np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices=[]):
        yield here
    torch.backends.cudnn.deterministic = deterministic
    np.random.set_state(numpy_state)  # noqa: NPY002
