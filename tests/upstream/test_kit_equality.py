"""Ten updates of ours under compat="kit" end where OfflineRL-Kit's own end."""

import pytest

from tests.upstream.harness import assert_equal, read_golden, run_kit, run_ours
from tests.upstream.scenarios import GOLDEN, SCENARIOS


@pytest.mark.upstream
@pytest.mark.parametrize("name", SCENARIOS)
def test_ten_updates_equal_the_kits(name: str) -> None:
    kit = run_kit(SCENARIOS[name])
    assert_equal(run_ours(SCENARIOS[name]), kit)


@pytest.mark.parametrize("name", GOLDEN)
def test_ten_updates_equal_the_kits_recorded_ones(name: str) -> None:
    assert_equal(run_ours(SCENARIOS[name]), read_golden(name))


@pytest.mark.upstream
@pytest.mark.parametrize("name", GOLDEN)
def test_the_record_is_what_the_kit_computes(name: str) -> None:
    assert_equal(run_kit(SCENARIOS[name]), read_golden(name))
