"""Properties of the sinks: no customer text is read as a command, and a cell gives back its text."""

import csv
import json
import re
import unicodedata
import warnings
from io import BytesIO, StringIO
from pathlib import Path

import pytest
from hypothesis import example, given
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from absa import sinks
from tests.customer_text import HOSTILE, parsed, rendered, texts

REORDERS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
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
    assert not {unicodedata.category(character) for character in line} & {"Cc", "Cs", "Zl", "Zp"}
    assert not {unicodedata.bidirectional(character) for character in line} & REORDERS
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
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+", UserWarning)
        figure.savefig(BytesIO(), format="png")


@hostile
@given(text=texts)
def test_markdown_any_text_is_plain_paragraph(text: str) -> None:
    page = rendered(f"- before {sinks.markdown(text)}\n\n{sinks.markdown(text)}\n")
    assert set(page.tags) <= {"ul", "li", "p"}
    assert page.tags.count("p") <= 1
    shown = page.text.replace("\u200b", "").split()
    assert shown == ["before", *sinks.log_line(text).replace("\u200b", "").split() * 2]


@hostile
@given(text=texts)
def test_markdown_code_any_text_stays_inside(text: str) -> None:
    page = rendered(sinks.markdown_code(["head", text, "tail"]))
    assert page.tags == ["pre", "code"]
    assert page.text.rstrip("\n") == "\n".join(["head", sinks.log_line(text), "tail"])


@hostile
@given(text=texts)
def test_html_text_any_text_is_no_element(text: str) -> None:
    page = parsed(f"<p title='{sinks.html_text(text)}'>{sinks.html_text(text)}</p>")
    assert page.tags == ["p"]
    assert page.text == sinks.log_line(text)


@hostile
@example(text='a\\"b\\n"\n')
@given(text=texts)
def test_metric_label_any_text_is_reversible(text: str) -> None:
    registry = CollectorRegistry()
    Gauge("shown", "A number", ["label"], registry=registry).labels(sinks.metric_label(text)).set(1)
    (family,) = text_string_to_metric_families(generate_latest(registry).decode())
    assert [sample.labels["label"] for sample in family.samples] == [text.encode("utf-8", "backslashreplace").decode()]


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
