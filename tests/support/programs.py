"""Scripts run as programs in the process of the test."""

import runpy
import sys
from pathlib import Path

import pytest


def run_program(script: Path, *words: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(script), *words])
        runpy.run_path(str(script), run_name="__main__")
