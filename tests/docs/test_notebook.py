"""The example notebook runs from its first cell to its last."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.docs.pages import ROOT

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
for needed in ("ipykernel", "onnxscript", "onnxruntime"):
    pytest.importorskip(needed)

NOTEBOOK = ROOT / "docs/examples/notebook.ipynb"


def shown(cell: Any) -> str:
    """What stands below a cell, as text."""
    parts = [out.get("text") or str(out.get("data", "")) for out in cell.outputs]
    return "".join(parts)


@pytest.mark.slow
def test_the_notebook_runs_and_shows_what_it_speaks_of(
    tmp_path: Path, import_from: Callable[..., None]
) -> None:
    import_from([ROOT])
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    load, train, curve, plot, shift, export = [c for c in notebook.cells if c.cell_type == "code"]
    assert "20000 transitions, generated" in shown(load)
    assert [out.output_type for out in train.outputs] == ["execute_result"]  # quiet
    assert "text/html" in train.outputs[0].data
    assert "<table" in shown(curve) and "image/png" in shown(plot)
    assert "mass:1.3" in shown(shift) and "gaussian:0.05:std" in shown(shift)
    difference = re.search(r"largest difference (\S+)", shown(export))
    assert difference and float(difference[1]) < 1e-5


def test_it_is_kept_without_what_a_run_of_it_left() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells)
