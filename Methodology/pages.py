"""Markdown that shows anybody's text as it is, for the page on a run."""
import os
import re
import urllib.parse
from pathlib import Path

from files import one_line

__all__ = ["picture", "plain", "table"]


def plain(text):
    """Text of anybody's, in one line, so that Markdown shows it as it is."""
    printable = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in one_line(text))
    return re.sub(r"([\\`*_\[\]<>|~$&#])", r"\\\1", printable)


def table(heading, rows, numbers=()):
    """A table in Markdown; columns whose place is in `numbers` are set to the right."""
    rule = ["---:" if k in numbers else "---" for k in range(len(heading))]
    cells = [heading, rule, *([plain(str(cell)) if str(cell) else "" for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def picture(path, caption, out):
    """A picture in Markdown, its path as seen from the folder of the page."""
    where = urllib.parse.quote(Path(os.path.relpath(path, out)).as_posix())
    return f"![{plain(caption)}]({where})\n\n*{plain(caption)}*"
