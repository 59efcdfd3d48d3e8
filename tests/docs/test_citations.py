"""A document that the code cites can be read by whoever has the repository."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
# a page, or what the notes were called that the specification was written in
CITATION = re.compile(r"(?:\w+/)*\w+\.md\b|\b(?:facts|specs)/[\w.]+|\w+_discrepancies\b")
FOLDERS = ("offlinerlkit_romi", "tests", "benchmarks", "run_example")
SOURCES = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
PAGES = {path.name for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]}


def missing(text: str) -> set[str]:
    """What the text cites, by a path from the root or a bare name, and is not there."""
    cited = set(CITATION.findall(text))
    return {name for name in cited if not (name in PAGES or (ROOT / name).is_file())}


def test_the_sources_cite_documents_of_the_repository_alone() -> None:
    found = {
        str(path.relative_to(ROOT)): missing(path.read_text("utf-8"))
        for path in SOURCES
        if path != Path(__file__)
    }
    assert len(found) > 300
    assert {path: names for path, names in found.items() if names} == {}


def test_what_is_not_there_is_found() -> None:
    text = "as romi_discrepancies 2, facts/neorl.yaml and envs.md say, docs/engine.md and romi.md"
    assert missing(text) == {"romi_discrepancies", "facts/neorl.yaml", "envs.md"}
