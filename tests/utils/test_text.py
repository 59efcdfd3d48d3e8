"""Tables line up, durations read as a clock's."""

import math

import pytest

from offlinerlkit_romi.utils.text import aligned, clock, markdown

LINES = [["piece", "ms"], ["a", "1"], ["longer", "12.5"]]


def test_names_stand_to_the_left_and_numbers_to_the_right() -> None:
    assert aligned(LINES).splitlines() == ["piece     ms", "a          1", "longer  12.5"]
    assert aligned([["a", "b", ""], ["aa", "bb", ""]], left=2).splitlines() == ["a   b", "aa  bb"]


def test_markdown_is_the_same_table_padded_or_not() -> None:
    padded, plain = markdown(LINES).splitlines(), markdown(LINES, pad=False).splitlines()
    assert padded[1] == "| ------ | ---: |" and plain[1] == "| --- | ---: |"
    for lines in (padded, plain):
        cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
        assert [cells[0], *cells[2:]] == LINES


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0:00"), (59.6, "1:00"), (3599.4, "59:59"), (3600, "1:00:00"), (math.nan, "-")],
)
def test_a_duration_is_shown_as_on_a_clock(seconds: float, shown: str) -> None:
    assert clock(seconds) == shown
