"""The three games of the page on ROMBRL, run as they stand."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "algorithms" / "rombrl.md"


@pytest.fixture(scope="module")
def games():
    code = re.search(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    games, _, _ = code[1].partition("\nfor mode in")
    names = {}
    exec(compile(games, "<page>", "exec"), names)
    return names


def worth(theta: float) -> float:
    """J against the follower's answer at lambda = 3."""
    return -(theta**2) / 2 - (2 * theta + 1) ** 2 / 3


def test_at_a_fixed_multiplier_stackelberg_finds_the_leaders_optimum_and_plain_does_not(games):
    plain, stackelberg = games["fixed"]("plain"), games["fixed"]("stackelberg")
    assert plain == pytest.approx(-2 / 7, abs=1e-5)
    assert stackelberg == pytest.approx(-4 / 11, abs=1e-5)
    assert worth(plain) == pytest.approx(-0.10204, abs=1e-5)
    assert worth(stackelberg) == pytest.approx(-0.09091, abs=1e-5)


@pytest.mark.parametrize(
    ("mode", "theta", "multiplier"), [("plain", 0, 5), ("kkt", 0, 5), ("stackelberg", -1, 4)]
)
def test_with_a_dual_multiplier_kkt_and_plain_reach_the_maximin_and_stackelberg_not(
    games, mode, theta, multiplier
):
    found = games["dual"](mode)
    assert found == pytest.approx((theta, -1, multiplier), abs=1e-3)


def test_where_the_game_rotates_kkt_comes_to_rest_and_plain_runs_away(games):
    assert games["rotation"]("plain") == pytest.approx(3.6e4, rel=0.02)
    assert games["rotation"]("kkt") < 1e-12
    assert games["rotation"]("stackelberg") < 1e-12
