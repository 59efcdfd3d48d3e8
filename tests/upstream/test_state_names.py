"""Checkpoints go both ways: the same names and shapes in both libraries' state dicts."""

from types import SimpleNamespace

import pytest

from tests.upstream.kit import KitAbsent, load_kit, load_ours
from tests.upstream.scenarios import SCENARIOS


def shapes(scenario, library: SimpleNamespace) -> dict[str, tuple[int, ...]]:
    state = scenario(library, {})[0].state_dict()
    return {name: tuple(value.shape) for name, value in state.items()}


@pytest.mark.upstream
@pytest.mark.parametrize("name", SCENARIOS)
def test_state_dicts_have_the_kits_names_and_shapes(name: str) -> None:
    try:
        kit = load_kit()
    except KitAbsent as absent:
        pytest.skip(str(absent))
    assert shapes(SCENARIOS[name], load_ours()) == shapes(SCENARIOS[name], kit)
