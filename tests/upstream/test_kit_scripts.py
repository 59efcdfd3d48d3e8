"""OfflineRL-Kit's run scripts with one word replaced: `offlinerlkit` by `offlinerlkit_romi`."""

from types import ModuleType

import numpy as np
import pytest

from tests.support.programs import run_program
from tests.upstream.gyms import DIALECTS, OldGymHopper, put_in_place
from tests.upstream.running import (
    SCRIPTS,
    TASK,
    assert_trained,
    import_replaced,
    rows_of,
    run_script,
)

pytestmark = pytest.mark.upstream


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("algo", SCRIPTS)
def test_a_kit_script_runs_after_the_import_replacement(
    algo, dialect, checkout, sandbox, installed
):
    source = import_replaced((checkout / "run_example" / f"run_{algo}.py").read_text())
    put_in_place(DIALECTS[dialect], installed)
    run_script(source, sandbox)
    assert_trained(sandbox)


def test_the_kits_sweep_runs_after_the_import_replacement(checkout, sandbox, installed):
    """Ray's part, handing out configurations and taking results, is played by a stand-in."""
    results: list[dict[str, float]] = []
    tune, ray = ModuleType("ray.tune"), ModuleType("ray")
    tune.grid_search = list
    tune.run = lambda run, **_: run({"real_ratio": 0.5, "seed": 1})
    tune.report = lambda **result: results.append(result)
    ray.init, ray.tune = lambda: None, tune
    installed(**{"ray": ray, "ray.tune": tune})
    put_in_place(OldGymHopper, installed)
    source = import_replaced((checkout / "tune_example" / "tune_mopo.py").read_text())
    run_script(source, sandbox)
    assert_trained(sandbox)
    scores = [float(row["eval/normalized_episode_reward"]) for row in rows_of(sandbox)]
    assert results == [{"last_10_performance": pytest.approx(np.mean(scores))}]
    assert list(sandbox.glob("log/*/mopo&real_ratio=0.5/seed_1&*"))


def test_the_kits_plotter_reads_our_runs(checkout, sandbox, installed, monkeypatch):
    import matplotlib

    matplotlib.use("Agg")
    put_in_place(OldGymHopper, installed)
    source = import_replaced((checkout / "run_example/run_bc.py").read_text())
    run_script(source, sandbox)
    # the kit asks for a style that matplotlib no longer has
    monkeypatch.setattr("matplotlib.pyplot.style.use", lambda name: None)
    words = f"--task {TASK} --algos bc --dpi 20 --smooth 0"
    run_program(checkout / "run_example/plotter.py", *words.split())
    assert (sandbox / "1.png").stat().st_size > 0
