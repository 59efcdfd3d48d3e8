"""The user's own data: equal transitions from every format, one line for everything wrong."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from offlinerlkit_romi import load_dataset
from offlinerlkit_romi.data import Dataset, load_own
from offlinerlkit_romi.errors import UserError
from tests.support.data import write_hdf5

EPISODES = (7, 4, 9)  # rows; the second ends by itself, the others are cut
SCALE = {"low": -10, "high": 20}
KEYS = ("observations", "actions", "rewards", "terminals", "timeouts")


def log(seed: int = 0) -> dict[str, np.ndarray]:
    """Three episodes, their numbers float64 with all digits."""
    rng, n = np.random.default_rng(seed), sum(EPISODES)
    ends = np.cumsum(EPISODES) - 1
    terminals, timeouts = np.zeros(n, bool), np.zeros(n, bool)
    terminals[ends[1]] = True
    timeouts[ends[[0, 2]]] = True
    return {
        "observations": rng.normal(size=(n, 3)) * 1e3,
        "actions": rng.uniform(-1, 1, (n, 2)),
        "rewards": rng.normal(size=n),
        "terminals": terminals,
        "timeouts": timeouts,
        "episode": np.repeat([5, 3, 8], EPISODES),
    }


def without(data: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in data.items() if key not in keys}


def frame(data: dict[str, np.ndarray]) -> pandas.DataFrame:
    x, a = data["observations"], data["actions"]
    return pandas.DataFrame(
        {"t": np.arange(len(x)), "y": x[:, 1], "x": x[:, 0], "z": x[:, 2]}
        | {"act_0": a[:, 0], "act_1": a[:, 1], "r": data["rewards"], "done": data["terminals"]}
        | {"run": data["episode"]}
    )


FRAME_COLUMNS = {
    "observations": ["x", "y", "z"],
    "actions": "act_*",
    "rewards": "r",
    "terminals": "done",
    "episode": "run",
}


def split(data: dict[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
    starts = np.r_[0, np.cumsum(EPISODES)]
    return [{key: data[key][a:b] for key in KEYS} for a, b in pairwise(starts)]


def assert_equal(dataset: Dataset, expected: Dataset) -> None:
    for key, value in expected.as_dict().items():
        np.testing.assert_array_equal(dataset.as_dict()[key], value, strict=True)
    assert dataset.info.sha256 == expected.info.sha256
    assert (dataset.model_rows is None) == (expected.model_rows is None)
    if expected.model_rows is not None:
        np.testing.assert_array_equal(dataset.model_rows, expected.model_rows)


@pytest.fixture
def data() -> dict[str, np.ndarray]:
    return log()


@pytest.fixture
def expected(data: dict[str, np.ndarray]) -> Dataset:
    return load_own({key: data[key] for key in KEYS})


def test_rows_become_the_transitions_a_loop_finds(data: dict[str, np.ndarray]) -> None:
    dataset, rows = load_own({key: data[key] for key in KEYS}), []
    for i in range(len(data["rewards"])):
        if data["terminals"][i]:
            rows.append((i, i))
        elif not data["timeouts"][i]:
            rows.append((i, i + 1))
    here, following = map(list, zip(*rows, strict=True))
    np.testing.assert_array_equal(dataset.observations, np.float32(data["observations"][here]))
    np.testing.assert_array_equal(
        dataset.next_observations, np.float32(data["observations"][following])
    )
    np.testing.assert_array_equal(dataset.actions, np.float32(data["actions"][here]))
    np.testing.assert_array_equal(dataset.rewards[:, 0], np.float32(data["rewards"][here]))
    np.testing.assert_array_equal(dataset.terminals[:, 0], data["terminals"][here])
    np.testing.assert_array_equal(dataset.model_rows, ~data["terminals"][here])
    assert (dataset.info.episodes, dataset.info.source, dataset.info.path) == (3, "arrays", "")
    returns = [part["rewards"].sum() for part in split(data)]
    assert dataset.info.behaviour_return == pytest.approx(np.mean(returns))


@pytest.mark.parametrize("kind", ["npz", "hdf5", "csv", "parquet", "folder", "csv folder"])
def test_every_format_gives_the_same_arrays_bit_for_bit(
    kind: str, data: dict[str, np.ndarray], expected: Dataset, tmp_path: Path
) -> None:
    columns, path = None, tmp_path / f"log.{kind}"
    arrays = {key: data[key] for key in KEYS}
    if kind == "npz":
        np.savez(path, **arrays)
    elif kind == "hdf5":
        write_hdf5(path, arrays)
    elif kind == "csv":
        columns, _ = FRAME_COLUMNS, frame(data).to_csv(path, index=False)
    elif kind == "parquet":
        columns, _ = FRAME_COLUMNS, frame(data).to_parquet(path)
    else:
        path = tmp_path / "episodes"
        path.mkdir()
        for i, part in enumerate(split(data), start=8):  # 8, 9, 10: not the order of the letters
            np.savez(path / f"run{i}.npz", **without(part, "timeouts"))
    if kind == "csv folder":
        columns, path = without(FRAME_COLUMNS, "episode"), tmp_path / "csv"
        path.mkdir()
        for i, (_, part) in enumerate(frame(data).groupby("run", sort=False), start=8):
            part.to_csv(path / f"run{i}.csv", index=False)
    dataset = load_dataset(path, columns=columns)
    assert_equal(dataset, expected)
    assert dataset.info.source == "file" and dataset.info.path == str(path)
    assert_equal(load_dataset(str(path), columns=columns), expected)


def test_memory_in_every_shape_gives_the_same_arrays(
    data: dict[str, np.ndarray], expected: Dataset
) -> None:
    assert_equal(load_dataset(frame(data), columns=FRAME_COLUMNS), expected)
    assert_equal(load_dataset(without(data, "timeouts")), expected)
    assert_equal(load_dataset({key: data[key].tolist() for key in KEYS}), expected)
    assert_equal(load_dataset(iter(split(data))), expected)
    assert_equal(load_dataset(without(part, "timeouts") for part in split(data)), expected)
    steps = [{key: data[key][i] for key in KEYS} for i in range(len(data["rewards"]))]
    assert_equal(load_dataset(iter(steps)), expected)


def test_transitions_one_by_one_keep_their_next_observations(
    data: dict[str, np.ndarray], expected: Dataset
) -> None:
    whole = expected.as_dict()
    steps = zip(*(whole[key] for key in ("observations", "actions")), strict=True)
    rest = zip(
        *(whole[key].squeeze() for key in ("rewards", "next_observations", "terminals")),
        strict=True,
    )
    dataset = load_dataset((*a, *b) for a, b in zip(steps, rest, strict=True))
    for key, value in whole.items():
        np.testing.assert_array_equal(dataset.as_dict()[key], value)
    assert dataset.model_rows is None  # all next observations are given


def test_an_episode_with_its_last_observation_loses_no_row(data: dict[str, np.ndarray]) -> None:
    parts = split(data)
    rng = np.random.default_rng(1)
    for part in parts:
        part["observations"] = np.concatenate([part["observations"], rng.normal(size=(1, 3))])
        del part["timeouts"]
    dataset = load_dataset(iter(parts))
    assert len(dataset) == sum(EPISODES) and dataset.model_rows is None
    following = np.concatenate([part["observations"][1:] for part in parts])
    np.testing.assert_array_equal(dataset.next_observations, np.float32(following))


def test_interleaved_episodes_are_put_side_by_side(
    data: dict[str, np.ndarray], expected: Dataset
) -> None:
    # first rows in the same order of episodes, the rest interleaved, order within each kept
    order = np.argsort(np.concatenate([np.arange(n) for n in EPISODES]), kind="stable")
    mixed = {key: value[order] for key, value in without(data, "timeouts").items()}
    assert_equal(load_dataset(mixed), expected)


def test_a_time_limit_cuts_episodes_where_nothing_else_does(data: dict[str, np.ndarray]) -> None:
    rows = without(data, "timeouts", "episode")
    with pytest.raises(UserError, match="does not say where episodes are cut"):
        load_dataset(rows)
    assert len(load_dataset(rows, max_episode_steps=5)) == 20 - 4  # rows 4, 9, 15 and the last
    alone = load_dataset(rows, columns={"timeouts": "none"})
    assert len(alone) == 20 - 1 and alone.info.episodes == 1


def test_terminals_may_be_declared_absent_but_not_forgotten(data: dict[str, np.ndarray]) -> None:
    rows = without(data, "terminals", "timeouts")
    with pytest.raises(UserError, match=r"lacks terminals .*terminals: none says"):
        load_dataset(rows)
    dataset = load_dataset(rows, columns={"terminals": "none"})
    assert not dataset.terminals.any() and len(dataset) == 20 - 3


@pytest.mark.parametrize(
    ("bounds", "low", "high"),
    [((0, 10), [0, 0], [10, 10]), (([-2, 5], [2, 6]), [-2, 5], [2, 6])],
)
def test_actions_are_scaled_both_ways(
    bounds: Any, low: list[int], high: list[int], data: dict[str, np.ndarray]
) -> None:
    low_, high_ = np.array(low, float), np.array(high, float)
    unit = data["actions"].copy()
    unit[0], unit[1] = -1, 1
    actions = low_ + (unit + 1) / 2 * (high_ - low_)
    dataset = load_dataset(
        {key: data[key] for key in KEYS} | {"actions": actions}, action_bounds=bounds
    )
    kept = ~data["timeouts"]
    np.testing.assert_allclose(dataset.actions, unit[kept], atol=1e-6)
    assert dataset.actions.min() == -1 and dataset.actions.max() == 1
    task = dataset.task
    np.testing.assert_allclose(task.to_user(dataset.actions), actions[kept], atol=1e-5)
    as_tensor = task.to_user(torch.tensor(dataset.actions))
    np.testing.assert_allclose(as_tensor, actions[kept], atol=1e-5)


def test_bounds_of_one_leave_the_actions_bits_alone(data: dict[str, np.ndarray]) -> None:
    dataset = load_dataset({key: data[key] for key in KEYS}, action_bounds=(-1, 1))
    np.testing.assert_array_equal(dataset.actions, np.float32(data["actions"][~data["timeouts"]]))


def test_a_card_says_what_the_arguments_would(data: dict[str, np.ndarray], here: Path) -> None:
    folder = here / "tank"
    folder.mkdir()
    frame(data | {"actions": data["actions"] * 5}).to_csv(folder / "log.csv", index=False)
    (folder / "rules.py").write_text(
        "def fell(obs, act, next_obs):\n    return next_obs[:, :1] > 900\n"
    )
    (folder / "tank.yaml").write_text(
        "file: log.csv\n"
        "columns: {observations: [x, y, z], actions: act_*, rewards: r, terminals: done, "
        "episode: run}\n"
        "action_bounds: [-5, 5]\nmax_episode_steps: 9\ntermination: rules.py:fell\n"
        "reference_returns: {low: -10, high: 20, env: Tank-v0, max_episode_steps: 9}\n"
    )
    carded = load_dataset(folder / "tank.yaml")
    from tests.data.own_rules import fell

    told = load_dataset(
        folder / "log.csv",
        name="tank",
        columns=FRAME_COLUMNS,
        action_bounds=([-5, -5], [5, 5]),
        max_episode_steps=9,
        termination=fell,
        reference_returns={"low": -10, "high": 20, "env": "Tank-v0", "max_episode_steps": 9},
    )
    assert_equal(carded, told)
    assert carded.task.termination == f"{folder / 'rules.py'}:fell"
    assert told.task.termination == "tests.data.own_rules:fell"
    for task in (carded.task, told.task):
        assert (task.name, task.obs_dim, task.action_dim) == ("tank", 3, 2)
        assert (task.ref_min, task.ref_max, task.max_episode_steps) == (-10, 20, 9)
        assert task.action_low == (-5, -5) and task.has_scores
    assert carded.card.from_record(carded.card.record()) == carded.card


def test_a_termination_rule_is_compared_with_the_data(data: dict[str, np.ndarray]) -> None:
    from tests.data.own_rules import fell

    rows = load_dataset({key: data[key] for key in KEYS}, termination=fell)
    used = rows.model_rows
    ended = rows.next_observations[used, 0] > 900
    note = next(note for note in rows.info.notes if note.startswith("termination"))
    assert (
        f"on {used.sum()} of the data's rows: ends {ended.sum()} that go on, misses 0 of 0" in note
    )


def test_functions_see_the_users_units(data: dict[str, np.ndarray]) -> None:
    seen = []

    def reward(obs: Any, act: Any, next_obs: Any) -> Any:
        seen.append(act)
        return act.sum(-1)

    rows = {key: data[key] for key in KEYS} | {"actions": data["actions"] * 5 + 5}
    rows["rewards"] = rows["actions"].sum(1)
    dataset = load_dataset(rows, action_bounds=(0, 10), reward_fn=reward)
    assert float(seen[0].min()) >= 0 and float(seen[0].max()) > 1
    note = next(note for note in dataset.info.notes if note.startswith("reward_fn"))
    assert float(note.split(" on average")[0].split()[-1]) < 1e-5


@pytest.mark.parametrize(
    ("change", "facts", "words"),
    [
        ({"rewards": None}, {}, "lacks rewards (it holds: "),
        ({"observations": [[1.0], [2.0, 3.0]]}, {}, "observations holds rows of different lengths"),
        ({"observations": np.zeros((20, 4, 4))}, {}, "images and other tensors are not supported"),
        ({"observations": np.zeros((20, 8, 8, 3), np.uint8)}, {}, "images and other tensors"),
        ({"observations": np.array(["a"] * 20)}, {}, "observations holds <U1, not numbers"),
        ({"observations": np.array([None] * 20)}, {}, "rows of different lengths or text"),
        ({"observations": np.zeros((19, 3))}, {}, "observations has 19 rows, actions 20"),
        ({"observations": np.zeros((0, 3))}, {}, "there are no transitions"),
        ({"observations": np.zeros((20, 0))}, {}, "there are no transitions"),
        ({"observations": 3.0}, {}, "observations is a single number"),
        ({"next_observations": np.zeros((20, 4))}, {}, "next_observations has shape (20, 4)"),
        ({"actions": np.zeros(20, int)}, {}, "discrete actions are not supported"),
        ({"actions": np.zeros((20, 2), bool)}, {}, "discrete actions are not supported"),
        ({"actions": np.full((20, 2), 3.0)}, {}, "20 rows have actions outside [-1, 1], [-1, 1]"),
        ({"actions": np.full((20, 2), 1e39)}, {}, "actions holds 40 NaN or infinite entries"),
        ({"rewards": np.full(20, np.nan)}, {}, "rewards holds 20 NaN or infinite entries"),
        ({"rewards": np.zeros((20, 2))}, {}, "rewards has shape (20, 2): give one number per row"),
        ({"rewards": np.zeros(20, complex)}, {}, "rewards holds complex128, not numbers"),
        ({"terminals": np.full(20, 0.5)}, {}, "terminals is 0.5 in row 0: write 0 or 1"),
        ({"terminals": np.full(20, 2)}, {}, "terminals is 2 in row 0"),
        ({"episode": np.full(20, np.nan)}, {}, "episode is missing in row 0"),
        ({}, {"action_bounds": (1, -1)}, "action_bounds is (1, -1): the lowest must lie below"),
        ({}, {"action_bounds": 3}, "action_bounds is 3: give the lowest and the highest action"),
        ({}, {"action_bounds": ([-1] * 3, [1] * 3)}, "action_bounds has 3 entries, actions have 2"),
        ({}, {"name": "a/b"}, "name is 'a/b': it becomes a folder"),
        ({}, {"termination": "nonne"}, "no termination rule is known for 'nonne'"),
        ({}, {"termination": "no.module:rule"}, "termination 'no.module:rule' cannot be imported"),
        ({}, {"termination": 3}, "termination is 3: give a name, or a function"),
        ({}, {"termination": lambda o, a, n: o[:, 0]}, "it must return (17,) or (17, 1) booleans"),
        ({}, {"reward_fn": lambda o, a, n: 1 / 0}, "ZeroDivisionError: division by zero"),
        ({}, {"reward_fn": lambda o, a, n: o}, "it must return (17,) or (17, 1) numbers"),
        ({}, {"reward_fn": "linear"}, "reward_fn 'linear' is no function"),
        ({}, {"max_episode_steps": -1}, "max_episode_steps is -1: give a number of steps"),
        ({}, {"reference_returns": (3, 3)}, "the return that scores 100 must be the larger"),
        ({}, {"reference_returns": "ab"}, "give the returns that score 0 and 100"),
        ({}, {"reference_returns": (1, 2, 3)}, "give the returns that score 0 and 100"),
        ({}, {"reference_returns": {"low": 1}}, "give the returns that score 0 and 100"),
        ({}, {"reference_returns": SCALE | {"limit": 9}}, "reference_returns has 'limit': give"),
        ({}, {"reference_returns": SCALE | {"env": 3}}, "reference_returns env is 3: give text"),
        (
            {},
            {"reference_returns": SCALE | {"max_episode_steps": -1}},
            "reference_returns max_episode_steps is -1: give a number of steps",
        ),
        (
            {},
            {"reference_returns": SCALE | {"max_episode_steps": 9}, "max_episode_steps": 8},
            "reference_returns are of 9 steps, episodes have 8: give those under the same",
        ),
        ({}, {"columns": {"observation": "x"}}, "columns: unknown quantity 'observation'"),
        ({}, {"columns": {"observations": ["x"]}}, "has no column 'x': it holds"),
        (
            {},
            {"columns": {"rewards": ["reward"]}},
            "has no column 'reward': did you mean 'rewards'",
        ),
        ({}, {"columns": {"rewards": 3}}, "columns: rewards is 3: give a column's name or a list"),
        ({}, {"columns": "x"}, "columns is 'x': give a map"),
        ({}, {"colums": {}}, "unknown fact 'colums' about a data set: choose from name"),
        ({}, {"env": "NoSuch-v0"}, "env 'NoSuch-v0' cannot be made"),
        ({}, {"env": "Pendulum-v1"}, "actions have 2 entries, those of env Pendulum-v1 have 1"),
        ({}, {"env": "CartPole-v1"}, "CartPole-v1: the space of actions is Discrete: discrete"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    change: dict[str, Any], facts: dict[str, Any], words: str, data: dict[str, np.ndarray]
) -> None:
    rows = {k: v for k, v in (without(data, "episode") | change).items() if v is not None}
    with pytest.raises(UserError) as caught:
        load_dataset(rows, **facts)
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".npz", ".hdf5", ".csv", ".parquet", ".yaml"])
def test_damaged_and_missing_files_are_named(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"log{suffix}"
    with pytest.raises(UserError, match=r"no data file|cannot read the card"):
        load_dataset(path)
    path.write_bytes(b"\x00\xff{[" * 30)
    with pytest.raises(UserError, match=f"log{suffix}") as caught:
        load_dataset(path)
    assert "\n" not in str(caught.value)


def test_other_sources_are_refused_with_a_remedy(tmp_path: Path) -> None:
    cases = [
        (tmp_path / "log.mat", "no data format ends in '.mat'"),
        (tmp_path, "holds no episodes: put one .npz"),
        ([], "the iterable holds no episodes"),
        ([1, 2], "transition 0 is a int: give tuples"),
        (7, "cannot load a int: give a path"),
        (np.zeros(3), "cannot load a ndarray"),
        ([log(), 3], "episode 1 is a int"),
        ([log(), without(log(), "rewards")], "episode 1 lacks rewards"),
        ([{"rewards": 1.0, "observations": [1.0]}, {"rewards": 1.0}], "transition 1 has rewards"),
    ]
    for data, words in cases:
        with pytest.raises(UserError) as caught:
            load_dataset(data)
        assert words in str(caught.value) and "\n" not in str(caught.value)


def test_pickles_in_an_npz_are_not_opened(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **(log() | {"rewards": np.array([{}] * 20)}))
    with pytest.raises(UserError, match=r"cannot read .*a\.npz"):
        load_dataset(tmp_path / "a.npz")


WRONG = st.one_of(
    st.none(),
    st.text(max_size=3),
    st.floats(allow_nan=True, allow_infinity=True),
    st.integers(-3, 3),
    st.lists(st.one_of(st.floats(width=32), st.text(max_size=2), st.none()), max_size=4),
    st.lists(st.lists(st.floats(-2, 2), max_size=3), max_size=5),
    st.sampled_from(
        [np.zeros((20, 2, 2)), np.full(20, "a"), np.zeros(20, "datetime64[s]"), np.zeros((0, 3))]
    ),
)


@settings(max_examples=80, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from([*KEYS, "episode", "next_observations", "junk"]), WRONG, max_size=3
    ),
    st.sets(st.sampled_from([*KEYS, "episode"]), max_size=2),
)
def test_malformed_arrays_end_in_data_or_in_one_line(
    changes: dict[str, Any], missing: set[str]
) -> None:
    try:
        dataset = load_dataset(without(log() | changes, *missing))
    except UserError as error:
        assert "\n" not in str(error)
    else:
        for value in dataset.as_dict().values():
            assert len(value) == len(dataset) > 0 and np.isfinite(value).all()


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(
            ["name", "columns", "action_bounds", "max_episode_steps", "termination", "reward_fn"]
        ),
        st.one_of(WRONG, st.dictionaries(st.sampled_from(KEYS), WRONG, max_size=2)),
        max_size=2,
    )
)
def test_malformed_facts_end_in_data_or_in_one_line(facts: dict[str, Any]) -> None:
    try:
        load_dataset(log(), **facts)
    except UserError as error:
        assert "\n" not in str(error)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=60))
def test_malformed_csv_ends_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = tmp_path_factory.mktemp("csv") / "log.csv"
    path.write_text("observations_0,actions_0,rewards,terminals\n" + text, encoding="utf-8")
    try:
        load_dataset(path, columns={"timeouts": "none"})
    except UserError as error:
        assert "\n" not in str(error)


def test_the_front_door_tells_a_task_from_a_path(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown task 'hoper-medium-v2': did you mean"):
        load_dataset("hoper-medium-v2")
    with pytest.raises(UserError, match="no data file"):
        load_dataset(str(tmp_path / "hopper-medium-v2.npz"))
    dataset = load_dataset(log())
    assert load_dataset(dataset) is dataset
