"""Running means of metrics."""

from contextlib import ExitStack

import pytest
import torch

from offlinerlkit_romi.engine import MetricMeans
from tests.support.stopping import before


def test_means_are_per_key_over_the_calls_that_had_it() -> None:
    means = MetricMeans()
    means.add({"a": torch.tensor(1.0), "b": 4})
    means.add({"a": torch.tensor(2.0)})
    means.add({"a": 6.0, "c": torch.tensor(5, dtype=torch.int64)})
    assert means.result() == {"a": 3.0, "b": 4.0, "c": 5.0}


def test_result_starts_afresh() -> None:
    means = MetricMeans()
    assert means.result() == {}
    means.add({"a": 1.0})
    means.result()
    means.add({"a": 7.0})
    assert means.result() == {"a": 7.0}


def test_a_metric_changed_in_place_afterwards_keeps_its_value() -> None:
    means, value = MetricMeans(), torch.tensor(1.0)
    means.add({"a": value})
    value.add_(10)
    means.add({"a": value})
    assert means.result() == {"a": 6.0}


def test_graphs_are_not_kept() -> None:
    means, x = MetricMeans(), torch.ones((), requires_grad=True)
    means.add({"a": 2 * x})
    assert not any(total.requires_grad for total in means._sums.values())


def test_many_small_values_keep_float32_digits() -> None:
    means = MetricMeans()
    for _ in range(1000):
        means.add({"a": torch.tensor(0.1)})
    assert means.result()["a"] == pytest.approx(0.1, rel=1e-5)


def test_reading_takes_one_transfer() -> None:
    means, transfers = MetricMeans(), []
    means.add({"a": torch.tensor(1.0), "b": torch.tensor(2.0), "c": torch.tensor(3.0)})
    with ExitStack() as stack:
        for name in ("cpu", "item", "tolist"):
            stack.enter_context(before(torch.Tensor, name, lambda x: transfers.append(x)))
        assert means.result() == {"a": 1.0, "b": 2.0, "c": 3.0}
    assert len(transfers) == 1
