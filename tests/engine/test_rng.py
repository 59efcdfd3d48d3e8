"""Generators: one per purpose, reproducible, and the global one is left alone."""

import pytest
import torch

from offlinerlkit_romi.engine import Generators, derive_seed
from offlinerlkit_romi.engine.rng import NAMES
from tests.support.stopping import before


def draws(generators: Generators) -> dict[str, list[float]]:
    return {n: torch.rand(8, generator=getattr(generators, n)).tolist() for n in NAMES}


def test_a_seed_names_its_streams_and_no_two_streams_are_alike() -> None:
    streams = [draws(Generators(seed)) for seed in (0, 0, 1)]
    assert streams[0] == streams[1]
    every = [tuple(x) for stream in (streams[0], streams[2]) for x in stream.values()]
    assert len(set(every)) == 2 * len(NAMES)


def test_drawing_from_one_generator_does_not_move_another() -> None:
    first, second = Generators(0), Generators(0)
    torch.rand(100, generator=first.data)
    assert draws(first)["model"] == draws(second)["model"]


def test_derived_seeds_are_fixed_numbers() -> None:
    """A change here changes every published run."""
    assert derive_seed(0, "data") == derive_seed(0, "data") != derive_seed(0, "model")
    assert derive_seed(1, "1/data") != derive_seed(1, "data")
    assert all(0 <= derive_seed(seed, "data") < 2**63 for seed in range(100))
    assert len({derive_seed(seed, name) for seed in range(50) for name in NAMES}) == 200


def initial_weight(seed: int, name: str) -> torch.Tensor:
    with Generators(seed).initialisation(name):
        return torch.nn.Linear(3, 3).weight.detach()


def test_initial_weights_depend_on_seed_and_name_alone() -> None:
    torch.manual_seed(1)
    first = initial_weight(0, "actor")
    torch.manual_seed(2)
    torch.rand(5)
    assert torch.equal(first, initial_weight(0, "actor"))
    assert not torch.equal(first, initial_weight(1, "actor"))
    assert not torch.equal(first, initial_weight(0, "critic"))


def test_initialisation_leaves_every_global_generator_alone() -> None:
    seeded = []
    state = torch.get_rng_state()
    with before(torch.cuda, "manual_seed_all", seeded.append):
        initial_weight(0, "actor")
    assert torch.equal(torch.get_rng_state(), state)
    assert not seeded  # torch.manual_seed would reseed the devices too, and nobody puts them back


def test_initialisation_restores_the_generator_after_an_error() -> None:
    before = torch.get_rng_state()
    with pytest.raises(RuntimeError), Generators(0).initialisation("actor"):
        raise RuntimeError
    assert torch.equal(torch.get_rng_state(), before)


def test_a_restored_state_continues_the_streams() -> None:
    first, second = Generators(0), Generators(9)
    draws(first)
    second.load_state_dict(first.state_dict())
    assert draws(first) == draws(second)
