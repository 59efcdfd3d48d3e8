"""Programs run in the process of the test, and their words."""

import runpy
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest


def run_program(script: Path, *words: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(script), *words])
        runpy.run_path(str(script), run_name="__main__")


def flags(settings: Mapping[str, Any]) -> list[str]:
    """Settings as they are told on the command line."""
    values = {name: x if isinstance(x, tuple) else (x,) for name, x in settings.items()}
    return [word for name, told in values.items() for word in (f"--{name}", *map(str, told))]
