"""The kit's `qlearning_dataset`, without its row loop."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from offlinerlkit_romi.errors import UserError

REQUIRED = ("observations", "actions", "rewards", "terminals")


def qlearning_dataset(
    env: Any,
    dataset: dict[str, NDArray[Any]] | None = None,
    terminate_on_end: bool = False,
    **kwargs: Any,
) -> dict[str, NDArray[Any]]:
    """Turn D4RL's arrays into transitions, with the kit's rows in the kit's order.

    As in the kit, the last row is never used, rows at a time limit are left out unless
    `terminate_on_end`, and stored `next_observations` are used where they exist. Two differences,
    both for data without them. Terminal rows are kept (the kit drops them, and their reward with
    them: OfflineRL-Kit issue 14) with their own observation as the next one, which a critic
    ignores; `data.load` also tells a dynamics model to leave them out. And without `timeouts`,
    time limits are counted from each episode's own first row.

    Args:
        env: Anything with `get_dataset()`; may be None when `dataset` is given.
        dataset: D4RL's dict: observations (N, S), actions (N, A), rewards, terminals (N,), and
            perhaps next_observations (N, S) and timeouts (N,).
        terminate_on_end: Keep rows at a time limit when their next observation is stored; they
            stay non-terminal, as in the kit.
        **kwargs: Passed to `env.get_dataset`.

    Returns:
        observations, actions, next_observations, rewards (M,), all float32, and terminals (M,)
        bool.

    Raises:
        UserError: Neither data nor an environment that has some, or arrays are missing.
    """
    data = _arrays(env, dataset, kwargs)
    used = len(data["rewards"]) - 1
    terminals = np.asarray(data["terminals"])[:used].reshape(used).astype(bool)
    limits = _time_limits(env, data, terminals)
    stored = "next_observations" in data
    keep = np.ones(used, dtype=bool) if terminate_on_end and stored else ~limits
    if not stored:
        keep |= terminals
    rows = np.flatnonzero(keep)
    if stored:
        following = np.asarray(data["next_observations"])[rows]
    else:
        following = np.asarray(data["observations"])[rows + ~terminals[rows]]
    return {
        "observations": _float32(data["observations"], rows),
        "actions": _float32(data["actions"], rows),
        "next_observations": following.astype(np.float32, copy=False),
        "rewards": _float32(data["rewards"], rows).reshape(-1),
        "terminals": terminals[rows],
    }


def _float32(values: NDArray[Any], rows: NDArray[Any]) -> NDArray[np.float32]:
    return np.asarray(values)[rows].astype(np.float32, copy=False)


def _arrays(
    env: Any, dataset: dict[str, NDArray[Any]] | None, kwargs: dict[str, Any]
) -> dict[str, NDArray[Any]]:
    if dataset is None:
        if not hasattr(env, "get_dataset"):
            raise UserError(
                "qlearning_dataset needs `dataset`, or an `env` with get_dataset(): "
                "pass dataset=, or use data.load(task)"
            )
        dataset = env.get_dataset(**kwargs)
    assert dataset is not None
    missing = [key for key in REQUIRED if key not in dataset]
    if missing or not len(dataset["rewards"]):
        raise UserError(
            f"the data set lacks {', '.join(missing) or 'rows'}: "
            "it needs observations, actions, rewards and terminals"
        )
    return dataset


def _time_limits(
    env: Any, data: dict[str, NDArray[Any]], terminals: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Rows at a time limit, from the data or, if it does not say, from the environment."""
    if "timeouts" in data:
        return np.asarray(data["timeouts"])[: len(terminals)].reshape(-1).astype(bool)
    limit = getattr(env, "_max_episode_steps", None) or getattr(
        getattr(env, "spec", None), "max_episode_steps", None
    )
    if limit is None:
        raise UserError(
            "the data set has no timeouts and env has no time limit: "
            "add `timeouts` to the data set, or pass an env with _max_episode_steps"
        )
    from offlinerlkit_romi.data.rows import time_limits

    return time_limits(terminals, int(limit))
