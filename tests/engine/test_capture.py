"""Captured steps: a whole run replayed on fixed memory is the run that never was, bit for bit."""

from functools import partial
from typing import Any

import pytest
import torch

from offlinerlkit_romi.buffer import ReplayBuffer
from offlinerlkit_romi.engine import (
    Counts,
    Engine,
    MetricMeans,
    StateStore,
    descend,
    make_adam,
    make_engine,
)
from offlinerlkit_romi.engine.capture import MOST_UNROLLED, Compiler
from offlinerlkit_romi.engine.optim import apply_gradients
from offlinerlkit_romi.engine.tape import Tapes
from offlinerlkit_romi.errors import TrainingInterrupted
from offlinerlkit_romi.experiment import build as build_module
from offlinerlkit_romi.experiment.algorithms import ALGORITHMS
from offlinerlkit_romi.experiment.run import configure, run
from offlinerlkit_romi.experiment.summary import Summary
from offlinerlkit_romi.experiment.user_data import take_objects
from offlinerlkit_romi.policy import MOPOPolicy, SACPolicy
from offlinerlkit_romi.policy_trainer import Checkpoints, MBPolicyTrainer, MFPolicyTrainer
from offlinerlkit_romi.utils.logger import Logger
from tests.experiment import own_functions
from tests.experiment.conftest import TINY_SETTINGS, make_dataset
from tests.support.comparing import differences, outcome
from tests.support.policies import generator, make_buffer, make_policy
from tests.support.recording import RecordedEngines, RecordedGraphs, pointers
from tests.support.stopping import at_update, terminate

SETTINGS = {
    **{"step_per_epoch": 10, "epoch": 2, "actor_lr_schedule": "cosine"},
    **{"keep_state": True, "checkpoint_share": 1.0},
}
MODEL_BASED = {"rollout_freq": 5, "dynamics_update_freq": 10, "adv_train_steps": 7}
HUNDRED_UPDATES = ("romi", "rambo", "rombrl", "mopo", "td3bc")  # the others go through 20


@pytest.fixture
def engines(monkeypatch, twins_together, masked_model_buffers):
    """Updates as on CUDA, and engines that record graphs, or run eagerly if `engine` says so."""
    recorded = RecordedEngines()

    def adam_with_rate_as_tensor(params, lr):
        return torch.optim.Adam(params, lr=torch.tensor(lr), fused=True)

    monkeypatch.setattr(build_module, "make_adam", adam_with_rate_as_tensor)  # as on CUDA
    return recorded


@pytest.fixture
def compiled_by(monkeypatch):
    """From its call on steps are compiled by this backend."""
    compile_step = torch.compile
    return lambda backend: monkeypatch.setattr(
        torch, "compile", partial(compile_step, backend=backend)
    )


def train(engines: RecordedEngines, algo: str, **values: Any) -> Summary:
    """The front door's, on these engines."""
    values, dataset = take_objects(values)
    dataset = make_dataset() if dataset is None else dataset
    return run(configure(algo, values), dataset=dataset, make_engine=engines.make)


def settings_of(algo: str, **values: Any) -> dict[str, Any]:
    known = TINY_SETTINGS[algo]
    extra = {name: value for name, value in MODEL_BASED.items() if name in known}
    return known | SETTINGS | extra | values


def unlike(first: str, second: str) -> list[str]:
    """Where two runs differ, but for which gradients their sentinels happened to look at."""
    found = differences(outcome(first), outcome(second))
    return [p for p in found if "]/gradient/" not in p and "/state/sentinel/usual/" not in p]


def assert_replayed_as_eager(engines: Any, algo: str, root: Any, settings: dict[str, Any]) -> None:
    modes = ("eager", "graph")
    runs = [
        train(engines, algo, **settings | {"engine": mode, "log_root": str(root / mode)})
        for mode in modes
    ]
    assert unlike(*(run.run_dir for run in runs)) == []


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_replayed_updates_at_a_rate_that_falls_equal_eager_ones(algo, engines, tmp_path) -> None:
    settings = settings_of(algo, epoch=10 if algo in HUNDRED_UPDATES else 2)
    assert_replayed_as_eager(engines, algo, tmp_path, settings)
    (graphs,) = engines.made
    assert 1 <= graphs.captures < graphs.replays


@pytest.mark.parametrize("variant", ["release", "no_weighting"])
def test_romis_other_updates_replay_as_they_run(variant, engines, tmp_path) -> None:
    assert_replayed_as_eager(engines, "romi", tmp_path, settings_of("romi", variant=variant))


def test_own_data_with_bounds_and_functions_of_the_users_is_captured(
    engines, tmp_path, capsys
) -> None:
    own = {"termination": own_functions.full, "reward_fn": own_functions.reward_of, "task": "tank"}
    own |= {"data": own_functions.episodes(), "estimates": "none", "epoch": 1}
    own |= {"action_bounds": (own_functions.LOW, own_functions.HIGH)}
    assert_replayed_as_eager(engines, "romi", tmp_path, settings_of("romi", **own))
    assert "runs eagerly" not in capsys.readouterr().out and engines.made[0].replays > 2


def test_a_replayed_run_that_is_stopped_and_resumed_is_the_same_run(engines, tmp_path) -> None:
    settings = settings_of("romi", epoch=3, engine="graph")
    whole = train(engines, "romi", **settings, log_root=str(tmp_path / "whole"))
    with at_update(15, terminate), pytest.raises(TrainingInterrupted):
        train(engines, "romi", **settings, log_root=str(tmp_path / "parts"))
    (folder,) = (tmp_path / "parts").glob("*/*/seed_*")
    resumed = train(engines, "romi", resume=str(folder))
    assert len(engines.made) == 3 and engines.made[2].replays > 2
    assert unlike(whole.run_dir, resumed.run_dir) == []


def make_trainer(engines, tmp_path, epoch: int = 2, step_per_epoch: int = 20) -> MFPolicyTrainer:
    """Forty updates of SAC; the state after twenty is kept."""
    engines.made.append(RecordedGraphs())
    (tmp_path / "states").mkdir()
    store = StateStore(tmp_path / "states", keep=9)
    policy, buffer = make_policy(SACPolicy, dtype=torch.float32), make_buffer()

    class FirstEpochAlone(Checkpoints):
        def epoch_ended(self, epoch: int, step: int, parts: Any) -> None:
            if epoch == 1:
                super().epoch_ended(epoch, step, parts)

    return MFPolicyTrainer(
        policy,
        None,
        buffer,
        Logger(str(tmp_path / "log"), {}),
        epoch=epoch,
        step_per_epoch=step_per_epoch,
        batch_size=8,
        close_logger=False,
        checkpoints=FirstEpochAlone(store, {"draws": buffer.generator}, print, share=1.0),
        engine=Engine(engines.made[-1]),
    )


def test_a_trainer_goes_on_from_an_earlier_state_with_graphs_it_had(engines, tmp_path) -> None:
    """Loading a state drops the graphs; what they would have read is filled in place anyway."""
    trained = make_trainer(engines, tmp_path)
    trained.train()
    before = pointers(trained.policy.training_state())
    end = [p.clone() for p in trained.policy.parameters()]
    assert trained.resume() == 20
    assert pointers(trained.policy.training_state()) == before
    trained.train()
    assert all(map(torch.equal, end, trained.policy.parameters()))
    assert engines.made[0].captures == 2


def test_a_captured_update_is_looked_at_wherever_its_optimisers_stood(engines, tmp_path) -> None:
    """A graph that was captured between two looks would never have looked at a gradient."""
    trainer = make_trainer(engines, tmp_path, epoch=1, step_per_epoch=37)  # one update per replay
    optims = trainer.policy.training_state().items()
    names = {name for name, part in optims if isinstance(part, torch.optim.Optimizer)}
    trainer.sentinel.counts.update(dict.fromkeys(names, 3))
    trainer.train()
    assert engines.made[0].replays == 37
    assert trainer.sentinel.state_dict()["usual"].keys() == names


def test_a_model_buffer_whose_length_the_host_counts_keeps_the_policy_step_eager(tmp_path) -> None:
    """A graph would go on drawing from the rows there were when it was captured."""
    told: list[str] = []
    ends = []
    for engine in (Engine(), Engine(RecordedGraphs(), told.append)):
        policy, real = make_policy(MOPOPolicy, dtype=torch.float32), make_buffer()
        fake = ReplayBuffer(40, (3,), action_dim=2, generator=generator(5))
        logger = Logger(str(tmp_path / f"log{len(ends)}"), {})
        sizes = {"epoch": 1, "step_per_epoch": 8, "batch_size": 8}
        MBPolicyTrainer(policy, None, real, fake, logger, (4, 3, 2), **sizes, engine=engine).train()
        ends.append(list(policy.parameters()))
    assert all(map(torch.equal, *ends))
    assert told == [
        "the policy step runs eagerly: the host counts the model buffer's rows, and a graph would "
        "keep their number: give a MaskedReplayBuffer"
    ]


@pytest.mark.parametrize("period, count", [(250, 25), (1000, 25), (7, 7), (37, 1), (64, 32)])
def test_replays_end_where_something_else_may_be_due(period, count) -> None:
    assert Engine(RecordedGraphs()).unrolled(period) == count <= MOST_UNROLLED
    assert period % count == 0 and Engine().unrolled(period) == 1


@pytest.mark.parametrize("count, unit", [(1000, 5), (7, 2), (3, 5), (0, 1), (64, 1), (100, 40)])
def test_portions_are_whole_units_but_for_the_last(count, unit) -> None:
    parts = Engine(RecordedGraphs()).portions(count, unit)
    assert sum(parts) == count and all(n % unit == 0 for n in parts[:-1]) and 0 not in parts
    assert len(set(parts)) <= 2
    assert Engine().portions(count, unit) == [count] * (count > 0)
    assert set(make_engine("compile", torch.device("cpu")).portions(count, 1)) <= {1}


class Tiny:
    """A parameter, its optimiser, and what is counted and drawn beside them."""

    def __init__(self, tensor_rate: bool = True) -> None:
        self.param = torch.ones(3, requires_grad=True)
        rate = torch.tensor(0.125) if tensor_rate else 0.125
        self.optim = torch.optim.Adam([self.param], rate, fused=True)
        self.draws = torch.Generator().manual_seed(0)
        self.means, self.counts = MetricMeans(), Counts()
        self.told: list[str] = []

    def step(self, times: int) -> None:
        for _ in range(times):
            noise = torch.randn(3, generator=self.draws)
            apply_gradients(self.optim, [self.param], [self.param.detach() * noise])
            self.means.add({"norm": self.param.detach().norm()})
            self.counts["steps"] += 1

    def parts(self) -> dict[str, Any]:
        return {name: x for name, x in vars(self).items() if name != "told"}

    def run(self, engine: Engine, calls: int = 3) -> tuple[list[float], dict[str, float], int]:
        steps = engine.steps("the tiny step", self.step, self.parts)
        for _ in range(calls):
            steps(2)
        return self.param.tolist(), self.means.result(), self.counts["steps"]


def test_capturing_changes_neither_state_nor_draws_nor_counts() -> None:
    one, two, graphs = Tiny(), Tiny(), RecordedGraphs()
    assert one.run(Engine()) == two.run(Engine(graphs))
    assert (graphs.captures, graphs.replays) == (1, 3)
    assert torch.equal(one.draws.get_state(), two.draws.get_state())


def test_each_kind_of_call_has_a_graph_of_its_own() -> None:
    tiny, graphs = Tiny(), RecordedGraphs()
    steps = Engine(graphs).steps("the tiny step", tiny.step, tiny.parts)
    for count in (1, 3, 1, 3, 3):
        steps(count)
    assert (graphs.captures, graphs.replays) == (2, 5) and tiny.counts["steps"] == 11


def test_a_rate_that_is_a_tensor_reaches_a_replay_and_one_that_is_a_number_does_not() -> None:
    ends = []
    for tensor_rate in (True, False):
        tiny = Tiny(tensor_rate)
        steps = Engine(RecordedGraphs()).steps("the tiny step", tiny.step, tiny.parts)
        schedule = torch.optim.lr_scheduler.ExponentialLR(tiny.optim, 0.0)
        steps(2)
        before = tiny.param.tolist()
        schedule.step()
        steps(2)
        ends.append(tiny.param.tolist() == before)
    assert ends == [True, False]


def test_a_capture_that_fails_is_told_once_and_the_step_runs_eagerly() -> None:
    one, two = Tiny(), Tiny()
    graphs = RecordedGraphs(refused_after=0)
    assert one.run(Engine()) == two.run(Engine(graphs, two.told.append))
    assert two.told == ["the tiny step runs eagerly: capturing it failed: operation not permitted"]
    assert graphs.replays == 0


def test_a_step_that_waits_for_the_device_falls_back_too() -> None:
    tiny = Tiny()
    engine = Engine(RecordedGraphs(), tiny.told.append)
    seen: list[float] = []
    steps = engine.steps("a step", lambda: seen.append(tiny.param.sum().item()), tiny.parts)
    steps()
    assert "_local_scalar_dense" in tiny.told[0] and seen[-1] == 3.0


def test_a_reason_that_begins_with_a_heading_is_told_with_its_first_line() -> None:
    tiny = Tiny()
    Engine(RecordedGraphs(), tiny.told.append).steps(
        "a step", tiny.step, tiny.parts, "the compiler raised:\n\n  no such kernel\nand more"
    )
    assert tiny.told == ["a step runs eagerly: the compiler raised: no such kernel"]


def test_an_obstacle_is_told_and_nothing_is_captured() -> None:
    tiny, graphs = Tiny(), RecordedGraphs()
    steps = Engine(graphs, tiny.told.append).steps("a step", tiny.step, tiny.parts, "it is Sunday")
    steps(2)
    assert tiny.told == ["a step runs eagerly: it is Sunday"] and graphs.captures == 0
    assert tiny.counts["steps"] == 2


def test_engines_by_name() -> None:
    told: list[str] = []
    cpu = torch.device("cpu")
    assert not make_engine("eager", cpu, told.append).captures
    for mode in ("auto", "graph"):
        assert isinstance(make_engine(mode, cpu, told.append).graphs, Tapes)
    assert isinstance(make_engine("compile", cpu, told.append).graphs, Compiler)
    assert told == []


@pytest.mark.slow
def test_a_compiled_step_does_what_the_step_does(compiled_by) -> None:
    """Without a compiler, which not every machine has: torch's own tracer alone."""
    compiled_by("eager")
    one, two = Tiny(), Tiny()
    assert one.run(Engine()) == two.run(make_engine("compile", torch.device("cpu")))
    assert two.told == []


class Counting:
    """A step beside which the host counts, with a rate that a schedule moves."""

    def __init__(self) -> None:
        self.net = torch.nn.Linear(3, 1)
        self.optim = make_adam(self.net.parameters(), 0.1)
        self.means, self.counts = MetricMeans(), Counts(steps=0)

    def step(self) -> None:
        loss = self.net(torch.ones(2, 3)).square().mean()
        descend(loss, self.net, self.optim)
        self.means.add({"loss": loss.detach()})
        self.counts["steps"] += 1

    def run(self, engine: Engine) -> list[float]:
        steps = engine.steps("the counting step", self.step, lambda: vars(self))
        schedule = torch.optim.lr_scheduler.ExponentialLR(self.optim, 0.9)
        for _ in range(12):
            steps()
            schedule.step()
        assert self.counts["steps"] == 12
        return [self.means.result()["loss"], *self.net.weight[0].tolist()]


@pytest.mark.slow
def test_a_step_is_compiled_in_one_piece_and_once_whatever_the_host_counts(compiled_by) -> None:
    """torch gives up on a function that it has had to compile eight times."""
    pieces = []

    def backend(graph: Any, _: Any) -> Any:
        pieces.append(graph)
        return graph.forward

    compiled_by(backend)
    eager, compiled = Counting(), Counting()
    compiled.net.load_state_dict(eager.net.state_dict())
    expected = eager.run(Engine())
    found = compiled.run(make_engine("compile", torch.device("cpu"), pytest.fail))
    assert found == pytest.approx(expected, rel=1e-5)
    assert len(pieces) == 1
