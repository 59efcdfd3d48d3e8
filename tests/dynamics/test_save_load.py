"""A saved model comes back bit for bit; what cannot be loaded is refused in one line, untouched."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from offlinerlkit_romi.dynamics import EnsembleDynamics
from offlinerlkit_romi.dynamics.space import FILE, ModelSpace
from offlinerlkit_romi.errors import UserError
from tests.support.policies import make_batch, make_dynamics
from tests.support.stopping import before

# what OfflineRL-Kit's dynamics.pth holds for two hidden layers
KIT_NAMES = {
    "max_logvar",
    "min_logvar",
    "elites",
    *(
        f"{layer}.{name}"
        for layer in ("backbones.0", "backbones.1", "output_layer")
        for name in ("weight", "bias", "saved_weight", "saved_bias")
    ),
}


def step(dynamics: EnsembleDynamics) -> list[np.ndarray]:
    dynamics.generator.manual_seed(0)
    batch = make_batch(6)
    return list(dynamics.step(batch["observations"].numpy(), batch["actions"].numpy())[:3])


def test_round_trip_gives_the_same_simulator(tmp_path: Path) -> None:
    saved, loaded = make_dynamics(seed=1), make_dynamics(seed=2)
    saved.model.set_elites([2, 0])
    saved.save(str(tmp_path))
    loaded.load(str(tmp_path))
    assert loaded.model.elites.tolist() == [2, 0]
    for left, right in zip(step(saved), step(loaded), strict=True):
        np.testing.assert_array_equal(left, right)
    assert {file.name for file in tmp_path.iterdir()} == {"dynamics.pth", "mu.npy", "std.npy"}


def test_state_dict_has_the_kits_names_and_shapes() -> None:
    state = make_dynamics().model.state_dict()
    assert set(state) == KIT_NAMES
    assert state["backbones.0.weight"].shape == (3, 5, 5)
    assert state["output_layer.bias"].shape == (3, 1, 8)
    assert state["elites"].dtype == torch.int64 and state["max_logvar"].shape == (4,)


def test_a_folder_written_by_the_kit_loads(tmp_path: Path) -> None:
    """Its saved weights and elites are parameters there, and stay parameters in the file."""
    source, target = make_dynamics(seed=1), make_dynamics(seed=2)
    state = {
        name: nn.Parameter(value.clone(), requires_grad=False)
        for name, value in source.model.state_dict().items()
    }
    torch.save(state, tmp_path / "dynamics.pth")
    np.save(tmp_path / "mu.npy", source.scaler.mu)
    np.save(tmp_path / "std.npy", source.scaler.std)
    target.load(str(tmp_path))
    for left, right in zip(step(source), step(target), strict=True):
        np.testing.assert_array_equal(left, right)
    assert not isinstance(target.model.elites, nn.Parameter)


def break_file(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"not a model")


BREAKS = {
    "no model": lambda folder: (folder / "dynamics.pth").unlink(),
    "garbage": lambda folder: break_file(folder, "dynamics.pth"),
    "empty": lambda folder: (folder / "dynamics.pth").write_bytes(b""),
    "truncated": lambda folder: (folder / "dynamics.pth").write_bytes(
        (folder / "dynamics.pth").read_bytes()[:300]
    ),
    "not a state dict": lambda folder: torch.save([1, 2], folder / "dynamics.pth"),
    "no scaler": lambda folder: (folder / "std.npy").unlink(),
    "broken scaler": lambda folder: break_file(folder, "mu.npy"),
    "other layers": lambda folder: make_dynamics(hidden_dims=(5, 7)).save(str(folder)),
    "other task": lambda folder: make_dynamics(obs_dim=4).save(str(folder)),
}


@pytest.mark.parametrize("damage", BREAKS.values(), ids=BREAKS.keys())
def test_an_unfit_folder_is_refused_in_one_line_and_changes_nothing(tmp_path: Path, damage) -> None:
    make_dynamics(seed=1).save(str(tmp_path))
    damage(tmp_path)
    target = make_dynamics(seed=2)
    before = step(target)
    with pytest.raises(UserError) as caught:
        target.load(str(tmp_path))
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)
    for left, right in zip(before, step(target), strict=True):
        np.testing.assert_array_equal(left, right)


def test_an_interrupted_save_leaves_the_old_model(tmp_path: Path) -> None:
    make_dynamics(seed=1).save(str(tmp_path))
    saved = (tmp_path / "dynamics.pth").read_bytes()

    def fail(state, file, *args, **kwargs) -> None:
        Path(file).write_bytes(b"half") if isinstance(file, str | Path) else file.write(b"half")
        raise OSError("disk full")

    with before(torch, "save", fail), pytest.raises(OSError, match="disk full"):
        make_dynamics(seed=2).save(str(tmp_path))
    assert (tmp_path / "dynamics.pth").read_bytes() == saved


SPACE = ModelSpace((0.5, -1.0, 20.0), (1.0, 0.1, 3.0), 2.0, -3.0)
NEAR = ModelSpace((0.5001, -1.0, 20.001), (1.0, 0.10001, 3.0), 2.0005, -3.0)


def saved_with(folder: Path, space: ModelSpace | None) -> EnsembleDynamics:
    dynamics = make_dynamics(seed=1)
    dynamics.space = space
    dynamics.save(str(folder))
    return dynamics


def test_the_space_lies_beside_the_model_and_comes_back(tmp_path: Path) -> None:
    saved, loaded = saved_with(tmp_path, SPACE), make_dynamics(seed=2)
    loaded.load(str(tmp_path))
    assert loaded.space == saved.space == SPACE
    assert {file.name for file in tmp_path.iterdir()} == {
        *("dynamics.pth", "mu.npy", "std.npy", "space.json")
    }


@pytest.mark.parametrize("there", [SPACE, NEAR, None], ids=["the same", "near", "unsaid"])
def test_a_model_of_this_space_or_of_none_said_is_taken(tmp_path: Path, there) -> None:
    saved, loaded = saved_with(tmp_path, there), make_dynamics(seed=2)
    loaded.space = SPACE
    loaded.load(str(tmp_path))
    assert loaded.space == SPACE
    for left, right in zip(step(saved), step(loaded), strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize(
    ("there", "why"),
    [
        (ModelSpace(None, None, 2.0, -3.0), "of raw observations, here are standardised"),
        (replace(SPACE, obs_mean=(0.5, -1.0, 20.1)), "standardised by another mean and std"),
        (replace(SPACE, obs_std=(1.0, 0.11, 3.0)), "standardised by another mean and std"),
        (replace(SPACE, obs_mean=(0.5,), obs_std=(1.0,)), "standardised by another mean and std"),
        (replace(SPACE, reward_scale=1.0), "its rewards are 1 r -3, here they are 2 r -3"),
        (replace(SPACE, reward_bias=0.0), "its rewards are 2 r +0, here they are 2 r -3"),
    ],
)
def test_a_model_of_another_space_is_refused_in_one_line_and_changes_nothing(
    tmp_path: Path, there, why
) -> None:
    saved_with(tmp_path, there)
    target = make_dynamics(seed=2)
    target.space = SPACE
    before = step(target)
    with pytest.raises(UserError) as caught:
        target.load(str(tmp_path))
    assert why in str(caught.value) and "\n" not in str(caught.value)
    for left, right in zip(before, step(target), strict=True):
        np.testing.assert_array_equal(left, right)


def test_a_standardised_model_is_refused_where_observations_are_raw(tmp_path: Path) -> None:
    saved_with(tmp_path, SPACE)
    target = make_dynamics()
    target.space = ModelSpace(reward_scale=2.0, reward_bias=-3.0)
    with pytest.raises(UserError, match="of standardised observations, here are raw observations"):
        target.load(str(tmp_path))


def test_what_an_earlier_model_said_does_not_outlive_it(tmp_path: Path) -> None:
    saved_with(tmp_path, SPACE)
    saved_with(tmp_path, None)
    assert not (tmp_path / FILE).exists()


@pytest.mark.parametrize("damage", ["{", "[]", '{"obs_mean": [1]}', '{"obs_mean": "x"}'])
def test_a_damaged_space_is_refused_in_one_line(tmp_path: Path, damage: str) -> None:
    saved_with(tmp_path, SPACE)
    (tmp_path / FILE).write_text(damage)
    with pytest.raises(UserError, match=r"space\.json is damaged") as caught:
        make_dynamics().load(str(tmp_path))
    assert "\n" not in str(caught.value)
