"""What only a CUDA device can show: captured runs, no waiting, and how much memory they take."""

import os
from typing import Any

import numpy as np
import pytest
import torch

from offlinerlkit_romi.data import DataInfo, Dataset
from offlinerlkit_romi.engine import Engine, make_engine
from offlinerlkit_romi.errors import TrainingInterrupted
from offlinerlkit_romi.experiment import lifecycle
from offlinerlkit_romi.experiment.algorithms import ALGORITHMS
from offlinerlkit_romi.experiment.run import train
from offlinerlkit_romi.model_buffer import MaskedReplayBuffer
from offlinerlkit_romi.policy.model_based.on_model import masked_rollout, rollout_metrics
from tests.experiment.conftest import TINY_SETTINGS, make_dataset
from tests.support.building import build, policy_updates
from tests.support.stopping import at_update, terminate

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
HUNDRED = {"epoch": 5, "step_per_epoch": 20, "actor_lr_schedule": "cosine", "device": "cuda"}
MODEL_BASED = {"rollout_freq": 10, "dynamics_update_freq": 20, "adv_train_steps": 7}


@pytest.fixture(autouse=True)
def same_kernels(monkeypatch):
    """Products that do not depend on which stream they run on."""
    monkeypatch.setitem(os.environ, "CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    monkeypatch.setattr(lifecycle, "load", lambda *_, **__: make_dataset())


def weights(algo: str, root: Any, **values: Any) -> dict[str, torch.Tensor]:
    known = TINY_SETTINGS[algo]
    extra = {name: value for name, value in MODEL_BASED.items() if name in known}
    done = train(algo, **known | HUNDRED | extra | {"log_root": str(root)} | values)
    return torch.load(f"{done.run_dir}/model/policy.pth", weights_only=True, map_location="cpu")


def assert_same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_graph_equals_eager_after_100_updates_at_a_falling_rate(algo, tmp_path, capsys) -> None:
    eager = weights(algo, tmp_path / "eager", engine="eager")
    capsys.readouterr()
    assert_same(eager, weights(algo, tmp_path / "graph", engine="graph"))
    assert "runs eagerly" not in capsys.readouterr().out


@pytest.mark.parametrize("algo", ["romi", "rambo"])
def test_a_captured_run_that_is_stopped_and_resumed_is_the_same_run(algo, tmp_path) -> None:
    whole = weights(algo, tmp_path / "whole", engine="graph")
    with at_update(50, terminate), pytest.raises(TrainingInterrupted):
        weights(algo, tmp_path / "parts", engine="graph")
    (folder,) = (tmp_path / "parts").glob("*/*/seed_*")
    resumed = train(algo, resume=str(folder))
    parts = torch.load(f"{resumed.run_dir}/model/policy.pth", weights_only=True, map_location="cpu")
    assert_same(whole, parts)


def test_a_run_goes_on_with_the_model_buffer_in_pinned_memory(tmp_path, capsys) -> None:
    made = weights("mopo", tmp_path, model_buffer="host")
    assert all(bool(x.isfinite().all()) for x in made.values())
    assert "the model buffer lies in the host's memory" in capsys.readouterr().out


@pytest.fixture
def no_waiting():
    """Any wait for the device is an error."""
    yield lambda: torch.cuda.set_sync_debug_mode("error")
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_a_policy_update_waits_for_nothing(algo, no_waiting) -> None:
    update = policy_updates(build(algo, "cuda"))
    for _ in range(2):
        update()
    no_waiting()
    for _ in range(3):
        update()


@pytest.mark.parametrize(
    "algo, options", [("romi", {}), ("romi", {"variant": "release"}), ("rambo", {})], ids=str
)
def test_a_model_update_waits_for_nothing(algo, options, no_waiting) -> None:
    run = build(algo, "cuda", **options)
    updates = run.policy.model_updates(run.buffers.for_model.rows)
    next(updates)
    no_waiting()
    for _ in range(4):
        next(updates)


def test_a_rollout_into_the_model_buffer_waits_for_nothing(no_waiting) -> None:
    run = build("romi", "cuda")
    fake = run.buffers.for_model.fake
    assert isinstance(fake, MaskedReplayBuffer)
    for _ in range(2):
        starts = run.buffers.real.sample(64)["observations"]
        made, mask = masked_rollout(run.policy.dynamics, run.policy.act_in_model, starts, 3)
        rollout_metrics(made, mask)
        fake.add_batch(**made, mask=mask)
        fake.sample(16)
        no_waiting()


def test_a_step_that_waits_falls_back_and_draws_go_on() -> None:
    told: list[str] = []
    engine = make_engine("graph", torch.device("cuda"), told.append)
    draws, x = torch.Generator("cuda").manual_seed(0), torch.zeros(3, device="cuda")

    def step() -> None:
        x.add_(torch.randn(3, device="cuda", generator=draws))
        float(x.sum())

    steps = engine.steps("a step", step, lambda: {"draws": draws, "x": x})
    for _ in range(3):
        steps()
    fresh = torch.Generator("cuda").manual_seed(0)
    expected = sum(torch.randn(3, device="cuda", generator=fresh) for _ in range(3))
    torch.testing.assert_close(x, expected)
    assert len(told) == 1 and told[0].startswith("a step runs eagerly: capturing it failed")


def test_a_failed_capture_costs_its_own_step_alone() -> None:
    told: list[str] = []
    engine = make_engine("graph", torch.device("cuda"), told.append)
    draws, x = torch.Generator("cuda").manual_seed(0), torch.zeros(3, device="cuda")

    def step(waits: bool) -> None:
        x.add_(torch.randn(3, device="cuda", generator=draws))
        if waits:
            float(x.sum())

    parts = {"draws": draws, "x": x}
    steps = [engine.steps(f"step {i}", step, lambda: parts) for i in range(3)]
    for _ in range(3):
        for i, one in enumerate(steps):
            one(i == 1)
    fresh = torch.Generator("cuda").manual_seed(0)
    expected = sum(torch.randn(3, device="cuda", generator=fresh) for _ in range(9))
    torch.testing.assert_close(x, expected)
    assert [one.captured for one in steps] == [True, False, True] and len(told) == 1


def test_graphs_may_run_in_any_order() -> None:
    """They share a pool, and leave nothing in it."""
    results = []
    for engine in (make_engine("graph", torch.device("cuda")), Engine()):
        x = torch.ones(1000, device="cuda")

        def step(kind: int, x: torch.Tensor = x) -> None:
            y = x * kind
            x.copy_((y + y.flip(0)).sin() + kind)

        steps = engine.steps("a step", step, lambda x=x: {"x": x})
        for kind in (1, 2, 3, 1, 3, 2, 2, 1):
            steps(kind)
        results.append(x)
    assert torch.equal(*results)


def test_walker2d_medium_expert_takes_one_and_a_half_gigabytes(tmp_path) -> None:
    """Two million rows, ROMI's preset, H 5: fit, rollouts, updates."""
    task, rows = "walker2d-medium-expert-v2", 2_000_000
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    train(
        "romi",
        data=many_rows(task, rows),
        device="cuda",
        rollout_length=5,
        epoch=1,
        dynamics_max_epochs=1,
        eval_episodes=0,
        log_root=str(tmp_path),
    )
    assert torch.cuda.max_memory_allocated() <= 1.5e9


def many_rows(task: str, n: int) -> Dataset:
    rng = np.random.default_rng(0)
    states = rng.standard_normal((n + 1, 17), np.float32)
    states[:, 0] += 1.25  # walker2d's height
    info = DataInfo(task, "generated", "nowhere", "0" * 64, "Walker2d-v4", 2, 0.0)
    return Dataset(
        states[:-1],
        rng.uniform(-1, 1, (n, 6)).astype(np.float32),
        states[1:],
        rng.standard_normal((n, 1), np.float32),
        np.zeros((n, 1), bool),
        info,
    )
