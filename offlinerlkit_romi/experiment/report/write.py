"""A report, from runs to files: one page, figures, tables."""

from __future__ import annotations

import json
import re
import shlex
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from offlinerlkit_romi.errors import UserError
from offlinerlkit_romi.experiment.report.figures import draw
from offlinerlkit_romi.experiment.report.gather import Gathered, Panel, gather
from offlinerlkit_romi.experiment.report.items import Section
from offlinerlkit_romi.experiment.report.robustness import robustness_block
from offlinerlkit_romi.experiment.report.scores import score_blocks
from offlinerlkit_romi.experiment.report.training import runs_block, speed_block, training_blocks
from offlinerlkit_romi.system.files import make_folder, write_text
from offlinerlkit_romi.version import __version__

PAGE = "report.html"


def report(
    runs: str | Path | Iterable[str | Path] = (),
    output: str | Path = "report",
    *,
    sweep: str | Path | None = None,
    title: str = "",
    figures: bool = True,
) -> Path:
    """Report on runs: a page that needs nothing but a browser, figures and tables.

    Runs that have not finished are shown as such. Runs on different sources of data get parts of
    their own; runs of one name and different settings get names of their own.

    Args:
        runs: Run folders, or folders that hold some.
        output: Where `report.html`, `figures/` and `tables/` go.
        sweep: A sweep's folder, whose trials are runs too.
        title: Of the page; by default it is made from the tasks.
        figures: Write the figures too, which takes longest.

    Returns:
        The page's path.

    Raises:
        UserError: There is no run, one is damaged, or a package is missing.
    """
    missing = [name for name in ("jinja2", "scipy") if find_spec(name) is None]
    if missing:
        raise UserError(
            f"report needs {' and '.join(missing)}: pip install 'offlinerlkit-romi[report]'"
        )
    listed = [runs] if isinstance(runs, (str, Path)) else list(runs)
    places = [str(place) for place in [*listed, *([] if sweep is None else [sweep])]]
    if not places:
        raise UserError("report on what? give run folders, or a folder of them, or --sweep")
    gathered = gather(places)
    sections = [_section(name, panels) for name, panels in gathered.sections.items()]
    folder = Path(output)
    make_folder(folder, "--output")
    command = shlex.join(["offlinerlkit-romi", "report", *places, "--output", str(output)])
    _write_tables(folder / "tables", sections)
    if figures:
        _draw_figures(folder / "figures", sections, gathered.labels)
    page = folder / PAGE
    write_text(page, _page(gathered, sections, title, command))
    return page


def _section(title: str, panels: Sequence[Panel]) -> Section:
    (scores, *more), points = score_blocks(panels)
    curves, *inside = training_blocks(panels)
    blocks = [scores, curves, *more, robustness_block(panels), *inside]
    blocks += [speed_block(panels), runs_block(panels)]
    if "(not " in title:
        points.append("These scores do not compare with published ones: the data are others.")
    runs = [record for panel in panels for record in panel.records]
    unfinished = [record for record in runs if not record.finished]
    if unfinished:
        points.append(
            f"In no score, for they have not finished: {len(unfinished)} of {len(runs)} runs (the "
            "list at the end says which)."
        )
    name = re.sub(r"\W+", "-", title.lower()).strip("-")
    return Section(
        name, title[:1].upper() + title[1:], points, [block for block in blocks if not block.empty]
    )


def _stem(sections: Sequence[Section], section: Section, name: str) -> str:
    """Of a file: with its source where there are several."""
    return name if len(sections) == 1 else f"{section.name}_{name}"


def _write_tables(folder: Path, sections: Sequence[Section]) -> None:
    folder.mkdir(exist_ok=True)
    for section in sections:
        for table in (table for block in section.blocks for table in block.tables if table.rows):
            titled = replace(table, title=f"{table.title}: {section.title}")
            stem = _stem(sections, section, table.name)
            write_text(folder / f"{stem}.md", titled.markdown() + "\n")
            write_text(folder / f"{stem}.tex", titled.latex())


def _draw_figures(folder: Path, sections: Sequence[Section], labels: Sequence[str]) -> None:
    folder.mkdir(exist_ok=True)
    for section in sections:
        for block in (block for block in section.blocks if block.charts):
            stem = folder / _stem(sections, section, block.name)
            draw(block.charts, stem, labels, f"{block.title}: {section.title}")


def _page(gathered: Gathered, sections: Sequence[Section], title: str, command: str) -> str:
    """The page's text: template, style and script are this package's own files."""
    from jinja2 import Environment
    from markupsafe import Markup

    own = files("offlinerlkit_romi.experiment.report")
    text = {kind: own.joinpath(f"page.{kind}").read_text("utf-8") for kind in ("html", "css", "js")}
    tasks = list(dict.fromkeys(p.task for panels in gathered.sections.values() for p in panels))
    charts = {
        f"{place}-{block.name}-{number}": chart.as_dict()
        for place, section in enumerate(sections)
        for block in section.blocks
        for number, chart in enumerate(block.charts)
    }
    # "<" would end the script element
    data = json.dumps({"algorithms": gathered.labels, "charts": charts}).replace("<", "\\u003c")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(text["html"]).render(
        title=title or f"Offline RL on {tasks[0] if len(tasks) == 1 else f'{len(tasks)} tasks'}",
        counts=_counts(gathered, tasks),
        sections=sections,
        algorithms=gathered.labels,
        tasks=tasks,
        notes=gathered.notes,
        made=f"Made {time.strftime('%Y-%m-%d %H:%M')} with version {__version__}",
        command=command,
        css=Markup(text["css"]),
        js=Markup(text["js"]),
        data=Markup(data),
    )


def _counts(gathered: Gathered, tasks: Sequence[str]) -> str:
    states = Counter(record.status for record in gathered.records)
    told = ", ".join(f"{count} {state}" for state, count in states.most_common())
    runs = f"{sum(states.values())} runs ({told})"
    return f"{runs} of {len(gathered.labels)} algorithms on {len(tasks)} tasks"
