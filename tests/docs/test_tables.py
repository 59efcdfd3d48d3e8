"""Every table of the pages is one: a head, a rule and rows without a gap."""

from __future__ import annotations

import re
from itertools import groupby
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("offlinerlkit_romi/**/*.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_each_table_has_a_rule_below_its_head(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    for is_table, lines in groupby(text.splitlines(), key=lambda line: line.startswith("|")):
        if is_table:
            head, *rest = lines
            assert rest and re.fullmatch(r"\|[-:| ]+\|", rest[0]), f"no rule below {head!r}"


def test_there_are_pages_with_tables() -> None:
    assert sum(bool(re.search(r"^\|[-:| ]+\|$", p.read_text("utf-8"), re.M)) for p in PAGES) > 10
