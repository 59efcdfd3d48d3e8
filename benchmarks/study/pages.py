"""The study's pages: no figure and no number of their tables is put there by hand.

    python benchmarks/study/pages.py

Draws figures, tables and index from what collect.py put into runs.csv and arms.json.

A page's own sentences stand outside the markers and between those named "answer".
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import wrap
from typing import Any

import pandas as pd
from collect import ERRORS, STUDY, Arms, read

from offlinerlkit_romi.experiment.report.figures import COLOURS, draw
from offlinerlkit_romi.experiment.report.items import Chart, Series, line
from offlinerlkit_romi.experiment.report.scores import printed, publications
from offlinerlkit_romi.experiment.statistics import mean_curve
from offlinerlkit_romi.utils.text import markdown, number

RESULTS = STUDY.parent
TITLES = {
    "score": "score",
    "q_model": "mean Q on model rows",
    "gradient": "gradient of the model's loss",
    "model_error_1": "one-step error, held out",
}
REFERENCES = ("romi", "rambo", "mopo")  # beside the arms of every question
LAST = 5  # evaluations whose mean is a run's score
WAY = 5.0  # from floor to ceiling, in points of score: a share of less says nothing
PAPER = "(the paper's)"
NOT_COMPARABLE = (
    "The paper's numbers are from D4RL's own files and 1,000,000 steps: not comparable."
)
GENERATED = "generated data, not D4RL's"


@dataclass(frozen=True)
class Question:
    """A page: its file's name, and the columns that it draws."""

    name: str
    columns: tuple[str, ...] = ("score", "q_model")
    published: bool = False


QUESTIONS = {
    "S": Question("schedule"),
    "1": Question("fit", ("score", "q_model", "model_error_1")),
    "2": Question("updates"),
    "3": Question("weights", ()),
    "4": Question("figures", ("q_model", "gradient", "score")),
    "5": Question("scores", published=True),
    "6": Question("small"),
    "7": Question("joint"),
}


@dataclass(frozen=True)
class Panel:
    """Arms that may stand side by side: one task, one schedule, one data set."""

    title: str
    arms: dict[str, pd.DataFrame]
    facts: dict[str, dict[str, Any]]

    @property
    def earlier(self) -> bool:
        """Whether it has a schedule of its own, not the study's."""
        return any(x["schedule"] for x in self.facts.values())

    def share(self, arm: str, score: float) -> float:
        """Of the way from the floor to the ceiling of the arm's rollout length, in percent.

        An arm without a model is measured against the best ceiling; NaN without floor or ceiling,
        and where the ceiling is hardly above the floor.
        """
        length = self.facts[arm].get("rollout_length")
        low = max(self._ends("floor", None), default=math.nan)
        high = max(self._ends("ceiling", length), default=math.nan)
        return 100 * (score - low) / (high - low) if high - low >= WAY else math.nan

    def _ends(self, role: str, length: int | None) -> list[float]:
        named = [arm for arm, x in self.facts.items() if x["role"] == role]
        fit = [a for a in named if length in (None, self.facts[a].get("rollout_length"))]
        return [interquartile(last(self.arms[arm], "score", LAST)) for arm in fit]


# --- data to pages ------------------------------------------------------------------------------


def panels_of(question: str, rows: pd.DataFrame, arms: Arms) -> list[Panel]:
    """The arms of a question by task and schedule, the ceiling first and the floor last."""
    asked = {key: x for key, x in arms.items() if question in x["questions"].split()}
    titles: dict[str, Arms] = {}
    place = {"ceiling": 0, "": 1, "floor": 2}
    for key in sorted(asked, key=lambda key: place[asked[key]["role"]]):
        task, arm = key.split("/", 1)
        schedule = asked[key]["schedule"]
        titles.setdefault(f"{task}, {schedule}" if schedule else task, {})[arm] = asked[key] | {
            "task": task
        }
    found = []
    for title, facts in sorted(titles.items()):
        own = any(not x["role"] and arm not in REFERENCES for arm, x in facts.items())
        if own or question in ("S", "5"):
            frames = {a: rows[(rows.arm == a) & (rows.task == x["task"])] for a, x in facts.items()}
            found.append(Panel(title, frames, facts))
    return found


def last(arm: pd.DataFrame, column: str, count: int = 1) -> list[float]:
    """Each seed's mean of its last known values of a column."""
    return [
        float(known.tail(count).mean())
        for _, run in arm.groupby("seed")
        if len(known := run[column].dropna())
    ]


def interquartile(values: Sequence[float]) -> float:
    """Mean without the lowest and the highest quarter; of up to three values their mean."""
    cut = len(values) // 4
    kept = sorted(values)[cut : len(values) - cut]
    return sum(kept) / len(kept) if kept else math.nan


def spread(values: Sequence[float], form: str = ".1f") -> str:
    """The interquartile mean, and from where to where the seeds go."""
    told = number(interquartile(values), form)
    return told if len(values) < 2 else f"{told} ({min(values):{form}} to {max(values):{form}})"


def charts_of(question: Question, panels: Sequence[Panel]) -> list[Chart]:
    """A row of charts per panel, mean and deviation over seeds; not of earlier schedules."""
    shown = [panel for panel in panels if not panel.earlier] or list(panels)
    names = list(dict.fromkeys(arm for panel in shown for arm in panel.arms))
    found = []
    for panel in shown:
        title = "\n".join(wrap(panel.title, 44))
        for column in question.columns:
            series = [
                line(arm, arm, mean_curve(traces(frame, column)), dashed=far(arm, names))
                for arm, frame in panel.arms.items()
                if frame[column].notna().any()
            ]
            marks = {"the data": data_score(panel)} if column == "score" else {}
            if any(len(one.x) > 1 for one in series):
                chart = Chart(f"{title}\n{TITLES[column]}", "policy steps", "", series, marks=marks)
                found.append(replace(chart, log=spans_decades(series)))
        if question.name == "figures" and (chart := error_chart(panel, names)).series:
            found.append(chart)
    return found


def far(arm: str, names: Sequence[str]) -> bool:
    """Whether the colours are used up before it."""
    return names.index(arm) >= len(COLOURS)


def traces(frame: pd.DataFrame, column: str) -> list[dict[int, float]]:
    """A column by policy step, seed by seed."""
    known = frame[["seed", "timestep", column]].dropna()
    return [
        dict(zip(run.timestep.astype(int), run[column].astype(float), strict=True))
        for _, run in known.groupby("seed")
    ]


def spans_decades(series: Sequence[Series]) -> bool:
    """Whether only a logarithm shows all lines."""
    sizes = sorted(abs(y) for one in series for y in one.y)
    return bool(sizes and sizes[-1] > max(1000, 30 * sizes[len(sizes) // 2]))


def data_score(panel: Panel) -> float:
    """Of the data's own episodes."""
    return next(iter(panel.facts.values()))["data"]["score"]


def error_chart(panel: Panel, names: Sequence[str]) -> Chart:
    """The paper's Figure 2: error over the steps of a rollout, at the end of training."""
    series = []
    for arm, frame in panel.arms.items():
        means = [interquartile(last(frame, column)) for column in ERRORS]
        known = [(k + 1, x) for k, x in enumerate(means) if not math.isnan(x)]
        if len(known) > 1:
            series.append(Series(arm, arm, *zip(*known, strict=True), dashed=far(arm, names)))
    return Chart(f"{panel.title}\nerror on held-out rows, at the end", "rollout step", "", series)


def table_of(question: Question, panel: Panel) -> str:
    """A row per arm."""
    head = ["arm", "seeds", "policy steps", "score, last five", "share", "Q, end", "Q, peak"]
    head += ["one-step error", *([PAPER] if question.published else [])]
    lines = []
    for arm, frame in panel.arms.items():
        scores, seeds = last(frame, "score", LAST), frame.groupby("seed")
        steps = sorted(set(seeds.timestep.max().astype(int)))
        role = panel.facts[arm]["role"]
        peak = frame.q_model.fillna(frame.q_real).max()
        q = last(frame.assign(q=frame.q_model.fillna(frame.q_real)), "q")
        share = panel.share(arm, interquartile(scores))
        cells = [f"{arm} ({role})" if role else arm, told_seeds(frame)]
        cells += [" to ".join(f"{x:,}" for x in dict.fromkeys((steps[0], steps[-1])))]
        cells += [spread(scores), "-" if math.isnan(share) else f"{share:.0f} %"]
        cells += [number(interquartile(q), ",.0f"), number(float(peak), ",.0f")]
        cells += [number(interquartile(last(frame, "model_error_1")), ".3f")]
        if question.published:
            value = number(paper(panel.facts[arm]), ".1f")
            cells += [f"({value})" if value != "-" and not role else "-"]
        lines.append(cells)
    note = f"The data's own score: {data_score(panel):.1f}."
    note += f" {NOT_COMPARABLE}" if question.published else ""
    return f"### {panel.title}\n\n{markdown([head, *lines])}\n\n{note}"


def told_seeds(frame: pd.DataFrame) -> str:
    """Which, and how many did not finish."""
    ends = frame.groupby("seed").status.first()
    open_ones = {s: int((ends == s).sum()) for s in ("diverged", "unfinished", "running")}
    told = ", ".join(f"{count} {status}" for status, count in open_ones.items() if count)
    return " ".join(map(str, ends.index)) + (f" ({told})" if told else "")


def paper(facts: dict[str, Any]) -> float:
    """What the ROMI paper prints."""
    table = publications()[0]
    return printed(table["mean"], table["columns"], facts["task"], facts["algorithm"])


def evidence(panels: Sequence[Panel]) -> str:
    """What the arms were: what all commands share, then what each has of its own."""
    told = []
    for panel in panels:
        words = {arm: options(facts["command"]) for arm, facts in panel.facts.items()}
        common = [x for x in next(iter(words.values())) if all(x in own for own in words.values())]
        head = ["arm", "its own words", "transitions", "commit", "hardware"]
        lines = [
            [
                arm,
                " ".join(x for x in words[arm] if x not in common),
                f"{facts['data']['transitions']:,} ({facts['data']['sha256'][:8]})",
                facts["commit"] or "not recorded",
                facts["hardware"],
            ]
            for arm, facts in panel.facts.items()
        ]
        source = next(iter(panel.facts.values()))["data"]["source"]
        told += [
            f"**{panel.title}**, {GENERATED if source == 'generated' else source}. All `train` "
            f"with `{' '.join(x for x in common if x != 'train')}`",
            markdown([head, *lines], left=5, pad=False),
        ]
    return "\n\n".join(told)


def options(command: str) -> list[str]:
    """A command as its options, each with its values."""
    found: list[str] = []
    for word in shlex.split(command):
        if word.startswith("--") or not found or not found[-1].startswith("--"):
            found.append(word)
        else:
            found[-1] += f" {word}"
    return found


def weights(found: Sequence[dict[str, Any]]) -> tuple[list[Chart], str]:
    """Question 3, whose numbers pessimism.py makes: what the updates did to the model's values."""
    frame = pd.json_normalize(list(found))
    frame["change"] = frame["after.gap"] - frame["before.gap"]
    by = ["noise", "width", "arm", "xi", "updates"]
    lines, charts = [], []
    for values, rows in frame.groupby(by):
        noise, width, arm, xi, updates = values
        cells = [f"4x{width}", f"{noise}", arm, f"{xi:g}", f"{updates:,}", f"{len(rows)}"]
        for column, form in (("before.gap", ".2f"), ("after.gap", ".2f"), ("change", ".2f"),
                             ("before.error", ".3f"), ("after.error", ".3f")):  # fmt: skip
            cells.append(spread(list(rows[column]), form))
        lines.append(cells)
    for (noise, xi), rows in frame.groupby(["noise", "xi"]):
        series = [
            Series(
                arm, arm, *zip(*own.groupby("width").change.mean().to_dict().items(), strict=True)
            )
            for arm, own in rows.groupby("arm")
        ]
        title = f"action noise {noise:g}, xi {xi:g}\nV at the model's next states: change"
        charts.append(Chart(title, "width of the four layers", "", series))
    head = ["ensemble", "action noise", "weights", "xi", "updates", "seeds"]
    head += ["gap before", "gap after", "change", "error before", "error after"]
    return charts, markdown([head, *lines], left=3)


# --- pages --------------------------------------------------------------------------------------


def between(text: str, name: str, body: str | None = None) -> str:
    """What stands between a page's markers of a name; with a body, the page with it there."""
    start, end = f"<!-- {name} -->\n", f"<!-- end {name} -->"
    before, found, rest = text.partition(start)
    old, closed, after = rest.partition(end)
    if not (found and closed):
        raise SystemExit(f"the page lacks {start.strip()} ... {end}")
    return old.strip() if body is None else f"{before}{start}\n{body}\n\n{end}{after}"


def pages(results: Path, folder: Path | None = None) -> dict[Path, str]:
    """Each page's text as the committed files have it; with a folder its figures go there."""
    rows, arms = read(results / "study")
    texts = {}
    for sign, question in QUESTIONS.items():
        page = results / "study" / f"{question.name}.md"
        if question.name == "weights":
            found = json.loads((results / "study" / "pessimism.json").read_text("utf-8"))["found"]
            charts, table = weights(found)
            told = ""
        else:
            panels = panels_of(sign, rows, arms)
            charts = charts_of(question, panels)
            table = "\n\n".join(table_of(question, panel) for panel in panels)
            told = evidence(panels)
        figure = page.with_suffix(".png")
        if folder and charts:
            names = list(dict.fromkeys(one.algo for chart in charts for one in chart.series))
            wide = len(question.columns) or 3
            draw(charts, folder / question.name, names, GENERATED, columns=wide, kinds=("png",))
        text = between(page.read_text("utf-8"), "figure", image(charts, figure))
        text = between(text, "table", table or "No runs yet.")
        texts[page] = between(text, "runs", told) if "<!-- runs -->" in text else text
    index = results / "index.md"
    lines = [
        [f"[{sign}. {title_of(text)}](study/{page.name})", between(text, "answer")]
        for sign, (page, text) in zip(QUESTIONS, texts.items(), strict=True)
    ]
    table = markdown([["question", "answer"], *lines], left=2, pad=False)
    return texts | {index: between(index.read_text("utf-8"), "answers", table)}


def title_of(text: str) -> str:
    """A page's heading, less its sign."""
    return re.sub(r"^# (\w\. )?", "", text.partition("\n")[0])


def image(charts: Sequence[Chart], figure: Path) -> str:
    """The line that shows a figure, and the marks of what it was drawn from and of its file."""
    if not charts or not figure.exists():
        return "No figure yet."
    drawn = json.dumps([chart.as_dict() for chart in charts]).encode()
    marks = [hashlib.sha256(data).hexdigest()[:12] for data in (drawn, figure.read_bytes())]
    shown = charts[0].title.replace("\n", ": ")
    return f"![{shown}]({figure.name})\n<!-- drawn from {' as '.join(marks)} -->"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of index.md")
    told = parser.parse_args()
    pages(told.results, told.results / "study")  # the figures first: a page holds their marks
    for page, text in pages(told.results).items():
        page.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
