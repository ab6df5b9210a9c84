"""Sinks: functions that make customer text safe for the places where operators read it, one per kind of place.

Aspects, segments, units, sources and texts are written by customers. A chart, a spreadsheet, a Markdown page, a log,
a terminal, an HTML page and a chat tool each read some characters as commands. Code that shows customer text must use
the function of the place. An architecture test lists the modules that may write to such a place.
"""

import csv
import html
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

LABEL_CHARACTERS: Final = 40
"""Longest label of a drawn chart; a longer one is cut."""

_BOM: Final = "utf-8-sig"  # without a byte order mark, spreadsheets read a CSV file in the system's encoding
# Control characters of terminals, line separators, marks that reorder text, halves of surrogate pairs.
_UNPRINTABLE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
# A cell starts at the start of the text, and after characters that another locale or a broken quote reads as its end.
_CELL_START: Final = r"(?<![^;\t\r\n])([ \"]*)('*)"
_FORMULA: Final = r"(?=[=+\-@\t\r\uff1d\uff0b\uff0d\uff20])"
_UNSAFE_CELL: Final = re.compile(_CELL_START + _FORMULA)
_SAFE_CELL: Final = re.compile(_CELL_START + "'" + _FORMULA)
_MARKUP: Final = re.compile(r"[\\`*_\[\]|~$]")
_BLOCK_START: Final = re.compile(r"^(\d*)([#+\-=.)])")
_LINKED: Final = re.compile(r"(?<=:)(?=//)|(?<=www)(?=\.)|(?<=@)", re.IGNORECASE)
_NO_BREAK: Final = "\u200b"  # zero width: the text looks the same, and is not a link any more


def log_line(text: str) -> str:
    r"""Return the text as one printable line for a log or a terminal.

    Control characters, line separators and marks that reorder text become JSON escapes such as `\u001b`, so a line of
    JSON stays JSON with the same content.
    """
    return _UNPRINTABLE.sub(lambda found: json.dumps(found[0])[1:-1], text)


def csv_cell(text: str) -> str:
    """Return the text as a spreadsheet cell that starts no formula; `csv_text` reverses it.

    An apostrophe goes before `=`, `+`, `-`, `@`, tab and carriage return where a cell may start. That is the start of
    the text, and after a semicolon, a tab or a line break: a spreadsheet of another locale ends the cell there.
    """
    return _UNSAFE_CELL.sub(r"\1\2'", text)


def csv_text(cell: str) -> str:
    """Return the original text of a cell that `csv_cell` returned."""
    return _SAFE_CELL.sub(r"\1\2", cell)


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file for spreadsheets: UTF-8 with a byte order mark, every text cell through `csv_cell`.

    Args:
        path: the file, replaced if it exists.
        columns: names of the columns, through `csv_cell` as well.
        rows: one value per column; None is an empty cell, a number is written as it is.

    Raises:
        OSError: the file cannot be written.
    """
    with path.open("w", encoding=_BOM, newline="") as file:
        writer = csv.writer(file)
        writer.writerow([csv_cell(name) for name in columns])
        writer.writerows([csv_cell(value) if isinstance(value, str) else value for value in row] for row in rows)


def plotly_label(text: str) -> str:
    """Return the text as a label that Plotly shows as written; it reads HTML tags and entities in every label."""
    return html.escape(log_line(text), quote=False)


def matplotlib_label(text: str) -> str:
    """Return the text as a label of at most `LABEL_CHARACTERS` that matplotlib shows as written, without mathtext."""
    line = log_line(text)
    shown = line if len(line) <= LABEL_CHARACTERS else line[: LABEL_CHARACTERS - 1] + "…"
    return shown.replace("$", r"\$")


def markdown(text: str) -> str:
    """Return the text as one line of Markdown without any markup: no link, no tag, no code, no list, no heading."""
    plain = html.escape(log_line(text), quote=False)
    escaped = _BLOCK_START.sub(r"\1\\\2", _MARKUP.sub(r"\\\g<0>", plain).strip())
    return _LINKED.sub(_NO_BREAK, escaped)


def markdown_code(lines: Iterable[str]) -> str:
    """Return lines as a code block of Markdown, with a fence that no line can close."""
    body = [log_line(line) for line in lines]
    longest = max((len(run) for line in body for run in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return "\n".join([fence, *body, fence])


def html_text(text: str) -> str:
    """Return the text for an HTML page, as content of an element or inside a quoted attribute."""
    return html.escape(log_line(text))


def metric_label(text: str) -> str:
    """Return the text as a label's value for prometheus-client, which escapes the rest.

    Halves of surrogate pairs become escapes: UTF-8 cannot hold them, and one would make a whole scrape fail.
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def chat_text(text: str) -> str:
    """Return the text as a chat message without disguised links, mentions or line breaks.

    Chat tools read `<address|words>` and `[words](address)` as links and `@channel` as a call to every member.
    """
    return _LINKED.sub(_NO_BREAK, html.escape(log_line(text), quote=False)).replace("](", f"]{_NO_BREAK}(")
