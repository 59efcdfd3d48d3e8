"""Freed tensors' memory is used again."""

from __future__ import annotations

import gc
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from offlinerlkit_romi.engine import spared_collector

SCRIPT = """
import resource, torch
from offlinerlkit_romi.engine import keep_freed_memory
from offlinerlkit_romi.policy import ROMIPolicy
from tests.support.policies import make_buffer, make_dynamics, make_policy
torch.set_num_threads(1)
sizes = {"obs_dim": 17, "action_dim": 6}
dynamics = make_dynamics(
    **sizes, hidden_dims=(200, 200, 200, 200), members=7, elites=5, dtype=torch.float32
)
policy = make_policy(
    ROMIPolicy, **sizes, hidden_dims=(256, 256), dtype=torch.float32, dynamics=dynamics,
    adv_rollout_batch_size=256, adv_train_steps=3,
)
buffer = make_buffer(300, **sizes)
def new_pages():
    policy.update_dynamics(buffer)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    policy.update_dynamics(buffer)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
given_back = new_pages()
assert keep_freed_memory()
print(given_back, new_pages())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_model_updates_touch_far_fewer_new_pages() -> None:
    command, root = [sys.executable, "-c", SCRIPT], Path(__file__).parents[2]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root)
    given_back, kept = map(int, done.stdout.split())
    assert 4 * kept < given_back


def test_the_collector_is_spared_what_exists_and_gets_it_back() -> None:
    assert gc.get_freeze_count() == 0
    with pytest.raises(ZeroDivisionError), spared_collector():
        assert gc.get_freeze_count() > 1000
        with spared_collector():  # a fit within a run
            pass
        assert gc.get_freeze_count() > 1000  # no equality: what is frozen may still die
        raise ZeroDivisionError
    assert gc.get_freeze_count() == 0


def test_what_the_caller_froze_stays_frozen() -> None:
    gc.freeze()
    try:
        with spared_collector():
            pass
        assert gc.get_freeze_count() > 1000
    finally:
        gc.unfreeze()
