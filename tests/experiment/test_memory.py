"""The memory plan, where the model buffer goes, and that the data is there once."""

import dataclasses

import numpy as np
import pytest
import torch

from offlinerlkit_romi.buffer import ReplayBuffer
from offlinerlkit_romi.engine import Generators
from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.experiment import parts
from offlinerlkit_romi.experiment.build import build_policy
from offlinerlkit_romi.experiment.memory import RESERVE, MemoryPlan, choose_place, working_bytes
from offlinerlkit_romi.experiment.model_config import ModelBasedConfig
from offlinerlkit_romi.experiment.parts import Buffers, prepare
from offlinerlkit_romi.experiment.resolve import settle
from offlinerlkit_romi.experiment.run import train
from offlinerlkit_romi.model_buffer import HostReplayBuffer
from tests.experiment.conftest import TINY_SETTINGS, make_dataset
from tests.support.comparing import differences, outcome
from tests.support.stopping import before

GB = 1_000_000_000
CPU = torch.device("cpu")


def prepared(algo: str, rows: int = 400, **values) -> Buffers:
    config = settle(algo, TINY_SETTINGS[algo] | values).config
    return prepare(config, make_dataset(rows), CPU, Generators(0))[1]


@pytest.mark.parametrize(
    "wish, needed, taken, free, place",
    [
        ("auto", 2 * GB, GB, 4 * GB, "device"),
        ("auto", 2 * GB, 3 * GB, 4 * GB, "host"),
        ("device", 2 * GB, 3 * GB, 4 * GB, "device"),
        ("host", 2 * GB, GB, 4 * GB, "host"),
        ("host", 2 * GB, GB, None, "device"),  # the CPU's memory is the host's
    ],
)
def test_the_model_buffer_goes_where_there_is_room(wish, needed, taken, free, place) -> None:
    assert choose_place(wish, needed, taken, free) == place


def test_a_device_too_small_for_the_data_is_told_in_one_line() -> None:
    with pytest.raises(UserError, match=r"need 5\.50 GB and the device has 4\.00 GB free"):
        choose_place("auto", 0, 5 * GB, 4 * GB)


def test_the_plan_adds_up_what_is_on_the_device() -> None:
    plan = MemoryPlan(GB, 2 * GB, GB // 100, GB // 2, free=10 * GB)
    assert str(plan) == (
        "memory: data 1.00 GB; model buffer 2.00 GB when full; networks and optimisers 0.01 GB; "
        "steps about 0.50 GB; together 3.51 GB of 10.00 GB free"
    )
    spilled = dataclasses.replace(plan, place="host", free=None)
    assert str(spilled).endswith(
        "in the host's pinned memory; networks and optimisers 0.01 GB; "
        "steps about 0.50 GB; together 1.51 GB"
    )


def test_walker2d_with_two_million_rows_fits_into_one_and_a_half_gigabytes() -> None:
    """By the plan; what a GPU says stands in tests/engine/test_gpu.py."""
    config = settle("romi", {"task": "walker2d-medium-expert-v2", "rollout_length": 5}).config
    assert isinstance(config, ModelBasedConfig)
    setting, _ = prepare(config, make_dataset(), CPU, Generators(0))
    policy = build_policy(config, setting)
    plan = MemoryPlan(
        parts.transition_bytes(setting, 2_000_000),
        parts.transition_bytes(setting, parts.fake_buffer_rows(config)),
        parts.networks_bytes(policy),
        working_bytes(config, setting),
    )
    assert plan.device_total < 1.5 * GB, str(plan)


def test_a_step_of_rorl_has_every_critics_perturbed_states_at_once() -> None:
    settings = TINY_SETTINGS["rorl"] | {"num_critics": 5, "n_perturbed": 7}
    setting = prepare(settle("rorl", settings).config, make_dataset(), CPU, Generators(0))[0]
    sizes = [
        working_bytes(settle(algo, TINY_SETTINGS[algo] | own).config, setting)
        for algo, own in (("rorl", settings), ("edac", {}))
    ]
    assert sizes[0] == 5 * 7 * sizes[1]


def test_a_run_says_its_plan_and_goes_on_in_host_memory_when_the_device_is_full(
    tiny_data, tmp_path, monkeypatch, capsys
) -> None:
    settings = TINY_SETTINGS["romi"] | {"log_root": str(tmp_path / "device"), "verbosity": 2}
    plain = train("romi", **settings)
    assert "; together 0.00 GB" in capsys.readouterr().out
    # as if the data had just fitted
    monkeypatch.setattr(parts, "free_bytes", lambda _: RESERVE + 500_000)
    spilled = []
    with before(HostReplayBuffer, "__init__", lambda *args, **_: spilled.append(args)):
        fits = train("romi", **settings | {"log_root": str(tmp_path / "fits")})
        assert differences(outcome(plain.run_dir), outcome(fits.run_dir)) == [] and not spilled
        settings |= {"rollout_batch_size": 300}
        train("romi", **settings | {"log_root": str(tmp_path / "spills")})
    assert len(spilled) == 1
    assert "in the host's pinned memory" in capsys.readouterr().out


def test_the_data_is_not_copied_on_the_cpu() -> None:
    dataset = make_dataset()
    config = settle("mopo", TINY_SETTINGS["mopo"] | {"error_segments": 0}).config
    _, buffers = prepare(config, dataset, CPU, Generators(0))
    for name, column in buffers.real.tensors().items():
        if name != "terminals":  # booleans there
            assert np.shares_memory(column.numpy(), dataset.as_dict()[name])


def test_a_model_that_may_not_see_a_few_rows_costs_no_copy_of_the_others() -> None:
    rows = 20_000
    dataset_bytes = sum(x.nbytes for x in make_dataset(rows).as_dict().values())
    buffers = prepared("mopo", rows)
    subset = buffers.for_model.rows
    assert 0 < len(buffers.real) - len(subset) < 500
    held = sum(x.nbytes for x in vars(subset).values() if isinstance(x, torch.Tensor))
    assert held < dataset_bytes / 10


def test_a_shared_data_set_is_copied_before_a_row_is_added() -> None:
    dataset = make_dataset().as_dict()
    before = {name: x.copy() for name, x in dataset.items()}
    buffer = ReplayBuffer(1, (17,), np.float32, 6)
    buffer.load_dataset(dataset, share=True)
    buffer.add_batch(*(torch.full((2, n), 9.0) for n in (17, 17, 6, 1, 1)))
    assert all(np.array_equal(dataset[name], before[name]) for name in before)
    assert float(buffer.tensors()["rewards"][1]) == 9.0


def test_a_model_buffer_takes_no_memory_before_its_first_row() -> None:
    buffers = prepared("mopo")
    fake = buffers.for_model.fake
    assert fake._stored is None and len(fake) == 0 and "0 of" in repr(fake)
    fake.add_batch(*(torch.zeros(2, n) for n in (17, 17, 6, 1, 1)))
    assert fake._stored is not None
