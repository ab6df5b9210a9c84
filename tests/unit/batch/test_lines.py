"""Lines of an input and of an output's rows, counted without the reader."""

import io

import pyarrow as pa
import pytest

from absa.batch import lines
from absa.batch.lines import count_lines, header_lines, lines_of_rows, rows_that_hold_rows


@pytest.mark.parametrize("chunk", [1, 2, 3, 1 << 20])
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a\nb\n", 2),
        (b"a\r\nb", 2),
        (b"a\rb\r", 2),
        (b"\xef\xbb\xbf\na\n\n \n", 2),
        (b"\xef\xbb\xbfa\n", 1),
        (b"", 0),
    ],
)
def test_lines_that_are_not_empty_are_counted(monkeypatch, chunk, content, expected):
    monkeypatch.setattr(lines, "_CHUNK_BYTES", chunk)
    assert count_lines(io.BytesIO(content), white_space_counts=True) == expected


def test_white_space_is_no_line_of_json():
    assert count_lines(io.BytesIO(b"{}\n \n\t\r\n{}"), white_space_counts=False) == 2


def test_rows_take_a_line_per_break():
    cells = pa.table({"text": ["a", "a\nb", "a\r\n\r\nb", "a\n"], "n": ["x", "y\nz", None, "x"]})
    assert lines_of_rows(cells) == 4 + (1 + 1) + 1 + 1
    assert lines_of_rows(cells.slice(0, 0)) == 0
    assert header_lines(["text", "the\naspect"]) == 2


def test_rows_that_hold_rows_are_found():
    cells = pa.table(
        {
            "text": ["the app", "Best app,app,1\nthe site", "well,\nthe app,app,1\nreally", "the app\nis a, b, c\nold"],
            "aspect": ["app", "site", "app", "app"],
            "label": ["1"] * 4,
        }
    )
    assert rows_that_hold_rows(cells, ",", "text", "aspect") == [1, 2]
    last = cells.select(["aspect", "label", "text"])
    assert rows_that_hold_rows(last.slice(3), ",", "text", "aspect") == []
    assert rows_that_hold_rows(cells.slice(0, 0), ",", "text", "aspect") == []
