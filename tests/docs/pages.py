"""What the documents hold: blocks of code, which of them run, and links."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from offlinerlkit_romi import cli

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    path
    for path in (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")))
    if path.name != "CHANGELOG.md"
]
BLOCK = re.compile(
    r"^(?:<!-- not run: (.+?) -->\n)?```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL
)
LINK = re.compile(r"\]\(([^)\s]+)\)")
LANGUAGES = {"python", "bash", "yaml", "toml", "diff", "bibtex", "sh", ""}


@dataclass(frozen=True)
class Block:
    """A block; `file` is the name that the text before it gives, `reason` why it is not run."""

    language: str
    code: str
    file: str
    reason: str

    @property
    def commands(self) -> list[list[str]]:
        """The words of every line of a shell's block."""
        lines = self.code.replace("\\\n", " ").splitlines()
        return [words for line in lines if (words := shlex.split(line, comments=True))]


def name_of(path: Path) -> str:
    """As it is spoken of."""
    return path.relative_to(ROOT).as_posix()


def blocks(text: str) -> list[Block]:
    """The blocks of a page, in order."""
    found, end = [], 0
    for match in BLOCK.finditer(text):
        paragraph = text[end : match.start()].rstrip().rpartition("\n\n")[2]
        file = re.search(r"`([\w.]+\.(?:py|yaml))`", paragraph) if match[2] != "bash" else None
        found.append(Block(match[2], match[3], file[1] if file else "", match[1] or ""))
        end = match.end()
    return found


def run(text: str) -> dict[str, Any]:
    """Execute a page in the working folder; returns what its Python left behind."""
    names: dict[str, Any] = {"__name__": "page"}
    for block in blocks(text):
        if block.language == "python":
            code = compile(block.code, "<page>", "exec")
            if block.file:
                Path(block.file).write_text(block.code)
            elif not block.reason:
                exec(code, names)
        elif block.language == "yaml" and block.file:
            Path(block.file).write_text(block.code)
        elif block.language == "bash" and not block.reason:
            for program, *words in block.commands:
                assert program == "offlinerlkit-romi" and cli.main(words) == 0, words
    return names
