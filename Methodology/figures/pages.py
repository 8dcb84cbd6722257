"""Markdown that shows anybody's text as it is, for the page on a run, and the same as one HTML file."""
import base64
import os
import re
import urllib.parse
from pathlib import Path

import mistune

from workflow.files import one_line

__all__ = ["html", "picture", "plain", "table"]

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2.5rem; border-bottom: 1px solid #ccc; }
.simulated h1 { color: #d55e00; }
table { border-collapse: collapse; margin: 1rem 0; font-size: 0.875rem; }
th, td { padding: 0.25rem 0.6rem; border-bottom: 1px solid #ddd; vertical-align: top; text-align: left; }
th { border-bottom: 2px solid #888; white-space: nowrap; } img { max-width: 100%; }
code { font-size: 0.9em; overflow-wrap: anywhere; }
@media print { body { margin: 0; max-width: none; font-size: 11pt; } h2 { break-after: avoid; }
  tr, img { break-inside: avoid; } }
"""


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


def html(text, out, simulated):
    """The page as one HTML file, with its pictures in it."""
    body = mistune.create_markdown(escape=True, plugins=["table"])(text)

    def embedded(match):
        path = os.path.normpath(out.absolute() / urllib.parse.unquote(match[1]))
        return f'<img src="data:image/png;base64,{base64.b64encode(Path(path).read_bytes()).decode()}"'

    body = re.sub(r'<img src="([^"]+)"', embedded, body)
    return (f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta name="viewport" content="width=device-width">\n<title>Report of a run</title>\n'
            f'<style>{STYLE}</style>\n</head>\n<body{" class=simulated" * simulated}>\n{body}</body>\n</html>\n')
