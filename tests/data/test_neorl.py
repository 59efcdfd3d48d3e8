"""NeoRL's npz files: read, refused, downloaded, made."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from offlinerlkit_romi import data
from offlinerlkit_romi.data.archive import NEORL
from offlinerlkit_romi.envs.tasks import task_names
from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.standins import recipes as generation
from offlinerlkit_romi.standins.recipes import generate
from tests.support.servers import Serve, Server

TASK = "Hopper-v3-low-100"


def neorl_arrays(rows: int = 12, **changes: Any) -> dict[str, np.ndarray]:
    """Trajectories end with rows 4 (fallen) and 8 (time), the third with the file."""
    rng = np.random.default_rng(0)
    obs = rng.normal(0, 0.05, (rows + 1, 12)).astype(np.float32)
    obs[:, 1] = 1.2  # upright
    following = obs[1:].copy()
    following[4, 1] = 0.5  # fallen
    done = np.isin(np.arange(rows), (4, 8, rows - 1)).astype(np.float32)
    arrays = {
        "obs": obs[:-1],
        "next_obs": following,
        "action": np.tanh(rng.standard_normal((rows, 3))).astype(np.float32),
        "reward": rng.standard_normal((rows, 1)).astype(np.float32),
        "done": done[:, None],
        "index": np.array([5, 9, rows], np.float32),
    }
    return {key: value for key, value in {**arrays, **changes}.items() if value is not None}


def write(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("index", [[5, 9, 12], [0, 5, 9]])
def test_ends_and_beginnings_both_give_the_trajectories(tmp_path: Path, index: list[int]) -> None:
    arrays = neorl_arrays(index=np.array(index, np.float32))
    found = data.load(TASK, str(write(tmp_path / "a.npz", arrays)))
    assert found.info.episodes == 3 and found.info.source == "file"
    assert found.observations.shape == (12, 12) and found.rewards.shape == (12, 1)
    returns = [arrays["reward"][rows].sum() for rows in (range(5), range(5, 9), range(9, 12))]
    assert found.info.behaviour_return == pytest.approx(np.mean(returns), abs=1e-5)
    np.testing.assert_array_equal(found.next_observations, arrays["next_obs"])


def test_a_time_limits_done_is_no_terminal_and_a_fall_is(tmp_path: Path) -> None:
    found = data.load(TASK, str(write(tmp_path / "a.npz", neorl_arrays())))
    assert np.flatnonzero(found.terminals).tolist() == [4]
    assert "3 trajectories" in found.info.notes[-1]


def test_rewards_of_either_shape_are_read_alike(tmp_path: Path) -> None:
    arrays = neorl_arrays()
    flat = {**arrays, "reward": arrays["reward"][:, 0], "done": arrays["done"][:, 0]}
    both = [data.load(TASK, str(write(tmp_path / "a.npz", a))).rewards for a in (arrays, flat)]
    np.testing.assert_array_equal(*both)


def test_a_done_that_neither_rule_nor_trajectories_explain_is_counted(tmp_path: Path) -> None:
    arrays = neorl_arrays()
    arrays["done"][[1, 2]] = 1
    found = data.load(TASK, str(write(tmp_path / "a.npz", arrays)))
    assert "2 rows say done" in found.info.notes[-1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"index": None}, r"lacks index \(it holds: action, done"),
        ({"reward": np.array([{}] * 12, object)}, "cannot read .* as npz"),
        ({"reward": np.array(["a"] * 12)}, "reward holds <U1, not numbers"),
        ({"metadata": np.asarray("3")}, "cannot read .* as npz"),
        ({"index": np.array([5.0, 4.0, 12.0])}, "index is no rising list of rows up to 12"),
        ({"index": np.array([5.5, 12.0])}, "index is no rising list"),
        ({"index": np.array([5.0, 13.0])}, "index is no rising list"),
        ({"obs": np.zeros((12, 11), np.float32)}, "is this the file of another task"),
        ({"next_obs": np.full((12, 12), np.nan, np.float32)}, "144 NaN or infinite entries"),
        ({"action": np.full((12, 3), 2.0, np.float32)}, r"outside \[-1, 1\]"),
    ],
)
def test_a_bad_file_is_refused_in_one_line(tmp_path: Path, changes: Any, message: str) -> None:
    path = write(tmp_path / "bad.npz", neorl_arrays(**changes))
    with pytest.raises(UserError, match=message) as error:
        data.load(TASK, str(path))
    assert "\n" not in str(error.value) and str(path) in str(error.value)


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    whole = write(tmp_path / "a.npz", neorl_arrays()).read_bytes()
    for size in np.linspace(0, len(whole) - 1, 25).astype(int).tolist():
        (tmp_path / "b.npz").write_bytes(whole[:size])
        with pytest.raises(UserError, match="cannot read"):
            data.load(TASK, str(tmp_path / "b.npz"))


def test_the_registry_names_every_tasks_file_as_polixir_does() -> None:
    for name in task_names("neorl"):
        remote, (robot, _, rest) = NEORL.remote_of(name), name.partition("-v3-")
        level, _, size = rest.partition("-")
        file = f"{robot}-v3-{level}-{size or 1000}-train-noise.npz"
        assert remote.url == f"http://datasets.polixir.site/v2/{robot}-v3/{file}"
        assert remote.algorithm == "md5" and len(remote.digest) == 32 and remote.size is None


@pytest.fixture
def server(tmp_path: Path, serve: Serve) -> Server:
    body = write(tmp_path / "origin.npz", neorl_arrays(3000)).read_bytes()
    facts = {"folder": "x/", "file": "a.npz", "md5": hashlib.md5(body).hexdigest()}
    return serve(NEORL, {"base_url": "", "files": {TASK: facts}}, body)


def test_a_file_of_unknown_size_is_downloaded_by_its_md5_and_resumed(server: Server) -> None:
    server.plan = ["break"]
    found = data.load(TASK, "neorl", progress=False)
    assert found.info.source == "neorl" and len(found) == 3000
    assert found.info.sha256 == hashlib.sha256(server.body).hexdigest()
    assert found.info.notes[0] == "NeoRL's own file, md5 verified"
    assert server.ranges[1] == f"bytes={len(server.body) // 2}-"


def test_a_whole_part_of_unknown_size_is_recognised(server: Server) -> None:
    path = NEORL.cached_path(TASK)
    path.parent.mkdir(parents=True)
    path.with_name(path.name + ".part").write_bytes(server.body)
    assert NEORL.fetch(TASK, progress=False)[0].read_bytes() == server.body
    assert server.ranges == []


def test_another_servers_bytes_are_refused_by_their_md5(server: Server) -> None:
    server.body = server.body[:-1] + b"x"
    with pytest.raises(UserError, match=r"not the expected file .*md5.*the download was removed"):
        NEORL.fetch(TASK, progress=False)
    assert not list(NEORL.folder().glob("a.npz*"))


def test_a_label_of_another_benchmark_is_refused() -> None:
    with pytest.raises(UserError, match=r"no task of d4rl: give neorl for its own file"):
        data.load(TASK, "d4rl")
    with pytest.raises(UserError, match=r"no task of neorl: give d4rl for its own file"):
        data.load("hopper-medium-v2", "neorl")


@pytest.fixture
def made(small_shards: None) -> dict[str, np.ndarray]:
    with np.load(generate(TASK, 700, progress=False)) as file:
        return {key: file[key] for key in file}


def test_a_made_file_has_neorls_keys_and_whole_trajectories(made: dict[str, np.ndarray]) -> None:
    assert set(made) == {"obs", "next_obs", "action", "reward", "done", "index", "metadata"}
    ends = made["index"].astype(int)
    rows = len(made["obs"])
    assert ends[-1] == rows >= 700 > ends[-2] and made["index"].dtype == np.float32
    assert np.flatnonzero(made["done"]).tolist() == (ends - 1).tolist()
    same = (made["next_obs"][:-1] == made["obs"][1:]).all(1)
    assert np.flatnonzero(~same).tolist() == (ends[:-1] - 1).tolist()
    starts = np.r_[0, ends[:-1]]
    assert (abs(made["obs"][starts, 0]) <= 0.005).all()  # x, which moves on from there
    assert made["obs"][ends - 1, 0].mean() > 0.3


def test_a_made_file_loads_and_says_what_it_is(made: dict[str, np.ndarray]) -> None:
    info = data.load(TASK, "generated", transitions=700).info
    assert info.source == "generated" and "Hopper-v4" in info.env_version
    assert "not a NeoRL file" in info.notes[0] and "hopper-0140k" in info.notes[1]
    assert f"{len(made['index'])} of 100 trajectories" in info.notes[2]


def test_no_more_trajectories_are_made_than_the_task_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("offlinerlkit_romi.standins.recipes.trajectories_of", lambda task: 2)
    with np.load(generate(TASK, 700, progress=False)) as file:
        assert len(file["index"]) == 2


def test_equal_seeds_give_equal_bytes_on_any_number_of_cores() -> None:
    one = generate(TASK, 300, 1, jobs=1, progress=False).read_bytes()
    assert one == generate(TASK, 300, 1, jobs=2, progress=False, force=True).read_bytes()


def test_four_fifths_of_the_actions_are_the_policys_mean(made: dict[str, np.ndarray]) -> None:
    from offlinerlkit_romi.standins.policies import load_actor

    actor = load_actor(generation.BEHAVIOUR_FOLDER / "hopper-0140k.npz", 3)
    mean = np.tanh(actor.distribution(made["obs"][:, 1:])[0])  # the policy does not see x
    share = (abs(made["action"] - mean) < 1e-4).all(1).mean()
    assert share == pytest.approx(0.8, abs=4 * (0.16 / len(mean)) ** 0.5)
