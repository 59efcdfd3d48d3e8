"""Hook of mkdocs: what a page links to outside `docs` is in the repository, not in the site."""

import re
from pathlib import Path
from typing import Any

LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!\w+:|#)([^)#\s]+)(#[^)\s]*)?\)")
DATA = (".csv", ".json", ".ipynb")


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Name such files, and data that a page rests on, in place of a link."""
    root = Path(config["docs_dir"]).resolve()

    def named(match: re.Match[str]) -> str:
        target = (root / page.file.src_uri).parent.joinpath(match[2]).resolve()
        inside = target.is_relative_to(root) and target.suffix not in DATA
        place = target.relative_to(root.parent).as_posix()
        return match[0] if inside else f"{match[1]} (`{place}`)"

    return LINK.sub(named, markdown)
