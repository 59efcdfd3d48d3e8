"""Every algorithm of the package has its page and its script."""

from pathlib import Path

import pytest

from offlinerlkit_romi.experiment.algorithms import ALGORITHMS

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_an_algorithm_has_its_page_and_its_script(algo: str) -> None:
    assert (ROOT / f"docs/algorithms/{algo}.md").read_text("utf-8").startswith("# ")
    assert f'"train", "{algo}"' in (ROOT / f"run_example/run_{algo}.py").read_text("utf-8")
