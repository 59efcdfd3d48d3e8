"""Taped steps: kernels played on fixed memory are the steps they were taken from, bit for bit."""

from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any

import pytest
import torch

from offlinerlkit_romi.callbacks import Callback
from offlinerlkit_romi.engine import Engine, make_engine
from offlinerlkit_romi.engine.tape import Tapes, afresh
from offlinerlkit_romi.errors import TrainingInterrupted
from offlinerlkit_romi.experiment.algorithms import ALGORITHMS
from offlinerlkit_romi.experiment.run import configure, run
from offlinerlkit_romi.experiment.summary import Summary
from tests.experiment.conftest import TINY_SETTINGS, make_dataset
from tests.support.comparing import differences, outcome
from tests.support.stopping import at_update, terminate


def train(algo: str, root: Any, **values: Any) -> Summary:
    schedule = {"step_per_epoch": 10, "actor_lr_schedule": "cosine", "keep_state": True}
    settings = TINY_SETTINGS[algo] | schedule | {"log_root": str(root), "engine": "auto"} | values
    return run(configure(algo, settings), dataset=make_dataset())


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_a_run_on_tape_is_the_eager_run(algo, tmp_path, capsys) -> None:
    runs = [train(algo, tmp_path / mode, engine=mode).run_dir for mode in ("eager", "auto")]
    assert differences(*map(outcome, runs)) == []
    assert "runs eagerly" not in capsys.readouterr().out


class Walk:
    """A step that adds a draw to where it is, by way of `through`."""

    def __init__(self, through: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self.place, self.draws = torch.zeros(2), torch.Generator().manual_seed(0)
        self.through, self.told = through, list[str]()

    def step(self) -> None:
        self.place.add_(self.through(torch.randn(2, generator=self.draws)))

    def go(self, tapes: Tapes | None = None) -> list[float]:
        engine = Engine(tapes, self.told.append)
        step = engine.steps("the walk", self.step, lambda: {"place": self.place, "d": self.draws})
        for _ in range(4):
            step()
        return self.place.tolist()


def every_second(scale: Iterator[float]) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda x: x * next(scale)


BY_THE_HOST = {
    "numpy": lambda: lambda x: torch.as_tensor(2 * x.numpy()),
    "a value": lambda: lambda x: x * x.sum().item(),
    "a mask": lambda: lambda x: x[x > -9],
    "a counter": lambda: every_second(cycle((1.0, 2.0))),
}


@pytest.mark.parametrize("through", BY_THE_HOST.values(), ids=BY_THE_HOST)
def test_what_only_the_host_knows_keeps_a_step_eager_and_says_so(through) -> None:
    taped = Walk(through())
    found = taped.go(Tapes())
    assert len(taped.told) == 1 and taped.told[0].startswith("the walk runs eagerly: capturing")
    if through is not BY_THE_HOST["a counter"]:  # which has counted what was tried, too
        assert found == Walk(through()).go()


def test_what_is_made_afresh_follows_the_host() -> None:
    ends, rows = [], torch.arange(4.0)
    for engine in (Engine(), Engine(Tapes(), pytest.fail)):
        total, size = torch.zeros(()), [1]

        def step(total: torch.Tensor = total, size: list[int] = size) -> None:
            made = afresh(lambda: {"rows": rows[: size[0]].sum(0, keepdim=True)})
            total.add_(made["rows"][0])

        steps = engine.steps("a step", step, lambda total=total: {"total": total})
        for size[0] in (1, 2, 4):
            steps()
        ends.append(total.item())
    assert ends == [7.0, 7.0]


def test_memory_of_results_is_used_again_and_what_is_read_later_is_kept() -> None:
    x, end, graphs = torch.rand(64), torch.zeros(64), Tapes()

    def step() -> None:
        first = x * 3
        y = first
        for _ in range(20):
            y = y.sin() + 1
        end.copy_(y + first)

    steps = Engine(graphs, pytest.fail).steps("a step", step, lambda: {"end": end})
    steps()
    expected = end.clone()
    end.zero_()
    steps()
    assert torch.equal(end, expected)
    assert sum(map(len, graphs._memory.values())) <= 3


def test_engine_auto_stays_eager_beside_code_of_the_users(tmp_path) -> None:
    made = list[str]()

    def make(mode: str, *rest: Any) -> Engine:
        made.append(mode)
        return make_engine(mode, *rest)

    for callbacks in ((), (Callback(),)):
        where = {"engine": "auto", "log_root": str(tmp_path / str(len(callbacks)))}
        resolved = configure("bc", TINY_SETTINGS["bc"] | where)
        run(resolved, dataset=make_dataset(), callbacks=callbacks, make_engine=make)
    assert made == ["auto", "eager"]


def test_a_taped_run_that_is_stopped_is_resumed_on_either_engine_as_the_same_run(tmp_path) -> None:
    whole = train("romi", tmp_path / "whole").run_dir
    for mode in ("eager", "graph"):
        with at_update(15, terminate), pytest.raises(TrainingInterrupted):
            train("romi", tmp_path / mode)
        (folder,) = (tmp_path / mode).glob("*/*/seed_*")
        settings = {"resume": str(folder), "engine": mode}
        resumed = run(configure("romi", settings), dataset=make_dataset())
        assert differences(outcome(whole), outcome(resumed.run_dir)) == []
