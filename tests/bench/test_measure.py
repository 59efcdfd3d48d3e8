import pytest
import torch
from torch import nn

from offlinerlkit_romi.bench.measure import Work, measure, peak_gflops
from offlinerlkit_romi.utils.text import markdown

CPU = torch.device("cpu")


def test_ways_take_turns_and_slow_ones_a_third_of_them():
    calls = []
    works = [
        Work("a", lambda: calls.append("a"), units=2),
        Work("b", lambda: calls.append("b"), slow=True, warm_ups=0),
    ]
    a, b = measure(works, 4, CPU, count_products=False)
    assert "".join(calls) == "a" + "ab" + "a" + "a" + "ab"
    assert len(a.samples) == 4 and len(b.samples) == 2


def test_each_way_runs_at_its_own_precision_and_the_old_one_comes_back():
    before = torch.get_float32_matmul_precision()
    seen = []

    def look():
        seen.append(torch.get_float32_matmul_precision())

    works = [Work("a", look, precision="medium"), Work("b", look, precision="highest")]
    measure(works, 2, CPU, count_products=False)
    assert seen == ["medium", "highest"] * 3
    assert torch.get_float32_matmul_precision() == before


def test_products_are_counted_through_both_passes():
    rows, width = 5, 7
    layer, x = nn.Linear(width, 1, bias=False), torch.randn(rows, width, requires_grad=True)

    def run():
        # forward, and the gradients of the weight and of the input, which is a leaf
        torch.autograd.grad(layer(x).tanh().sum(), [layer.weight, x])

    (timing,) = measure([Work("a", run, units=2)], 1, CPU)
    assert timing.gflop == pytest.approx(3 * 2 * rows * width / 2 / 1e9)


def test_the_ceiling_is_a_speed():
    assert peak_gflops("highest", CPU, size=64) > 0


def test_a_table_is_aligned():
    lines = markdown([["piece", "ms"], ["a", "1"], ["longer", "12.5"]]).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[1] == "| ------ | ---: |"
