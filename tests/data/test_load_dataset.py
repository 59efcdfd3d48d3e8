"""`qlearning_dataset` against a row loop written from the kit's documented behaviour."""

from types import SimpleNamespace

import numpy as np
import pytest

from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.utils.load_dataset import qlearning_dataset
from tests.support.data import hopper_rows


def kit_rows(arrays: dict[str, np.ndarray], terminate_on_end: bool) -> list[tuple[int, int]]:
    """(row, -1 for the stored next observation or the row it is taken from)."""
    found = []
    stored = "next_observations" in arrays
    for row in range(len(arrays["rewards"]) - 1):
        terminal, limit = arrays["terminals"][row], arrays["timeouts"][row]
        if stored:
            if not limit or terminate_on_end:
                found.append((row, -1))
        elif terminal:
            found.append((row, row))
        elif not limit:
            found.append((row, row + 1))
    return found


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("terminate_on_end", [True, False])
def test_rows_equal_the_slow_loop(seed: int, stored: bool, terminate_on_end: bool) -> None:
    rng = np.random.default_rng(seed)
    changes = {"terminals": rng.random(50) < 0.15, "timeouts": rng.random(50) < 0.15}
    arrays = hopper_rows(50, seed, **changes, **({} if stored else {"next_observations": None}))
    result = qlearning_dataset(None, arrays, terminate_on_end)
    expected = kit_rows(arrays, terminate_on_end)
    rows = [row for row, _ in expected]
    following = [
        arrays["next_observations"][row] if source < 0 else arrays["observations"][source]
        for row, source in expected
    ]
    for key in ("observations", "actions", "rewards", "terminals"):
        assert np.array_equal(result[key], arrays[key][rows])
    assert np.array_equal(result["next_observations"], np.array(following))
    assert result["rewards"].shape == result["terminals"].shape == (len(rows),)
    assert result["terminals"].dtype == bool and result["rewards"].dtype == np.float32


def test_environment_with_get_dataset_and_a_time_limit_is_enough() -> None:
    arrays = hopper_rows(20, terminals=np.arange(20) == 3, timeouts=None)
    env = SimpleNamespace(get_dataset=lambda: arrays, _max_episode_steps=5)
    result = qlearning_dataset(env)
    kept = [row for row in range(19) if row not in (8, 13, 18)]
    assert np.array_equal(result["observations"], arrays["observations"][kept])


def test_nothing_to_read_from_is_said() -> None:
    with pytest.raises(UserError, match="needs `dataset`, or an `env` with get_dataset"):
        qlearning_dataset(None)
    with pytest.raises(UserError, match="lacks rewards"):
        qlearning_dataset(None, {"observations": 1, "actions": 1, "terminals": 1})
    with pytest.raises(UserError, match="no timeouts and env has no time limit"):
        qlearning_dataset(None, hopper_rows(timeouts=None))
