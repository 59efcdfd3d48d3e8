"""A call of the kit's classes is one of ours: names, their order, and plain defaults."""

import inspect

import pytest

from tests.upstream.kit import NAMES, load_ours

PUBLIC = [name for names in NAMES.values() for name in names]
# a slip of the kit's; its scripts pass it by position
SPELLING = {"ouput_config": "output_config"}


@pytest.mark.upstream
@pytest.mark.parametrize("name", PUBLIC)
def test_a_call_of_the_kits_is_one_of_ours(name, kit) -> None:
    parameters = inspect.signature(getattr(kit, name)).parameters
    theirs = {SPELLING.get(key, key): parameter for key, parameter in parameters.items()}
    ours = inspect.signature(getattr(load_ours(), name)).parameters
    assert list(ours)[: len(theirs)] == list(theirs)
    for key, parameter in theirs.items():
        default = parameter.default
        if not inspect.isclass(default):  # Swish and GaussianNoise are classes of its own
            assert ours[key].default == default, key
