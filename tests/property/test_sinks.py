"""Properties of the sinks: no customer text is read as a command, and a cell gives back its text."""

import csv
import json
import re
from html.parser import HTMLParser
from io import BytesIO, StringIO
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from absa import sinks

HOSTILE = (
    "=HYPERLINK(\"http://evil\",\"x\")", "+1", "-2+3", "@SUM(1)", "\t=1", "\r=1", "fine;=1+1", "a\n=1", "'=1", "＝1",
    "<a href='http://evil'>prize</a>", "<b>bold</b>", "&lt;img&gt;", "</script><script>alert(1)</script>",
    r"$\foo$", "$", r"\$", "```", "`` ` ``", "a\n```\n# head", "[x](http://evil)", "![x](http://evil)", "| a | b |",
    "- list", "1. list", "# head", "> quote", "www.evil.example", "\x1b[2J", "\x9b31m", "a\r\nlevel=error",
    "\u2028", "\u202egnp.exe", "<!channel>", "@everyone", "<http://evil|click>",
)  # fmt: skip
texts = st.one_of(st.sampled_from(HOSTILE), st.text(), st.lists(st.sampled_from(HOSTILE), max_size=3).map("".join))
STARTS = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")


def hostile(test):  # type: ignore[no-untyped-def]
    for text in HOSTILE:
        test = example(text=text)(test)
    return test


@hostile
@given(text=texts)
def test_csv_cell_any_text_is_reversible(text: str) -> None:
    assert sinks.csv_text(sinks.csv_cell(text)) == text


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@hostile
@given(text=texts)
def test_csv_file_any_locale_starts_no_formula(
    tmp_path_factory: pytest.TempPathFactory, separator: str, text: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "cells.csv"
    sinks.write_csv(path, ["id", "text", "change"], [["a", text, -0.5]])
    written = path.read_bytes()
    assert written.startswith(b"\xef\xbb\xbf")
    rows = list(csv.reader(StringIO(written.decode("utf-8-sig"), newline=""), delimiter=separator))
    cells = [cell for row in rows for cell in row]
    assert [cell for cell in cells if cell.lstrip(' "').startswith(STARTS) and cell.strip('"') != "-0.5"] == []
    if separator == ",":
        assert sinks.csv_text(rows[1][1]) == text


@hostile
@given(text=texts)
def test_log_line_any_text_is_one_line(text: str) -> None:
    line = sinks.log_line(text)
    assert line.splitlines() in ([line], [])
    assert all(character.isprintable() or character not in "\x1b\x9b\u202e\u2066" for character in line)
    assert json.loads(sinks.log_line(json.dumps({"a": text}, ensure_ascii=False))) == {"a": text}


@hostile
@given(text=texts)
def test_plotly_label_holds_no_markup(text: str) -> None:
    label = sinks.plotly_label(text)
    assert "<" not in label
    assert not re.sub(r"&(amp|lt|gt);", "", label).count("&")


@hostile
@given(text=texts)
def test_matplotlib_label_is_never_math(text: str) -> None:
    from matplotlib import cbook

    label = sinks.matplotlib_label(text)
    assert not cbook.is_math_text(label)
    assert len(label.replace(r"\$", "$")) <= sinks.LABEL_CHARACTERS


@pytest.mark.parametrize("text", HOSTILE)
def test_matplotlib_label_is_drawn(text: str) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2, 1), dpi=40)
    FigureCanvasAgg(figure)
    figure.subplots().set_yticks([0], [sinks.matplotlib_label(text)])
    figure.savefig(BytesIO(), format="png")


class Tags(HTMLParser):
    """Collects the elements and texts of rendered Markdown or a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def parsed(page: str) -> Tags:
    found = Tags()
    found.feed(page)
    found.close()
    return found


@hostile
@given(text=texts)
def test_markdown_any_text_is_plain_paragraph(text: str) -> None:
    renderer = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    page = parsed(renderer.render(f"- before {sinks.markdown(text)}\n\n{sinks.markdown(text)}\n"))
    assert set(page.tags) <= {"ul", "li", "p"}
    assert page.tags.count("p") <= 1
    shown = page.text.replace("\u200b", "").split()
    assert shown == ["before", *sinks.log_line(text).replace("\u200b", "").split() * 2]


@hostile
@given(text=texts)
def test_markdown_code_any_text_stays_inside(text: str) -> None:
    page = parsed(MarkdownIt("commonmark").render(sinks.markdown_code(["head", text, "tail"])))
    assert page.tags == ["pre", "code"]
    assert page.text.rstrip("\n") == "\n".join(["head", sinks.log_line(text), "tail"])


@hostile
@given(text=texts)
def test_html_text_any_text_is_no_element(text: str) -> None:
    page = parsed(f"<p title='{sinks.html_text(text)}'>{sinks.html_text(text)}</p>")
    assert page.tags == ["p"]
    assert page.text == sinks.log_line(text)


@hostile
@given(text=texts)
def test_chat_text_holds_no_mention_or_hidden_link(text: str) -> None:
    message = sinks.chat_text(text)
    assert "<" not in message
    assert "](" not in message
    assert not re.search(r"@\w|://|\n", message)


def test_csv_file_umlauts_survive(tmp_path: Path) -> None:
    sinks.write_csv(tmp_path / "a.csv", ["text"], [["schön"], [None]])
    assert (tmp_path / "a.csv").read_bytes() == '\ufefftext\r\nschön\r\n""\r\n'.encode()
