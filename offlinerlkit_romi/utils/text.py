"""What people read: tables, durations, bars."""

from __future__ import annotations

import csv
import io
import math
import os
import sys
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

Lines = Sequence[Sequence[str]]


def aligned(lines: Lines, left: int = 1) -> str:
    """A table for a terminal: the first `left` columns to the left, numbers to the right."""
    return "\n".join("  ".join(line).rstrip() for line in _padded(lines, left))


def markdown(lines: Lines, left: int = 1, pad: bool = True) -> str:
    """A table of Markdown, its first line the head; `pad` makes it readable as it is."""
    widths = [max(map(len, column)) if pad else 4 for column in zip(*lines, strict=True)]
    dashes = [width - (place >= left) if pad else 3 for place, width in enumerate(widths)]
    rule = ["-" * n + ":" * (place >= left) for place, n in enumerate(dashes)]
    head, *body = _padded(lines, left) if pad else lines
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, rule, *body))


def html(title: str, lines: Lines) -> str:
    """A table for a notebook below its title; what stands in it is no markup."""
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in line) + "</tr>" for line in lines
    )
    return f"<table><caption>{escape(title)}</caption>{rows}</table>"


def csv_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A CSV file's text, its head from the first row's names."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def clock(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss; "-" for NaN."""
    if math.isnan(seconds):
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def number(value: float, form: str = ".2f") -> str:
    """A number in a format; "-" for NaN."""
    return "-" if math.isnan(value) else format(value, form)


def plus_minus(mean: float, std: float, form: str = ".1f") -> str:
    """A mean ± its spread, where there is one; "-" for NaN."""
    return number(mean, form) + ("" if math.isnan(std) else f" ± {std:{form}}")


def bar(title: str, total: float | None, unit: str, **settings: Any) -> Any:
    """A progress bar of tqdm's on stderr, as wide as the terminal."""
    from tqdm import tqdm

    return tqdm(desc=title, total=total, unit=unit, dynamic_ncols=True, **settings)


def on_terminal() -> bool:
    """Whether a bar on stderr would be seen: a terminal of width 0 shows none."""
    if not sys.stderr.isatty():
        return False
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns > 0
    except OSError:
        return True


def _padded(lines: Lines, left: int) -> list[list[str]]:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        [
            cell.ljust(width) if place < left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        for line in lines
    ]
