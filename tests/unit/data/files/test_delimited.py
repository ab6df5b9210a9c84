"""Rows of delimited text: quotes that stray lose no line and merge none."""

import io
import random

import polars as pl
import pytest

from absa.data.files.delimited import AMBIGUOUS_QUOTE, MALFORMED, STRAY_QUOTE, read_layout, scan_blocks
from absa.data.files.delimited_rows import read_rows
from absa.data.files.raw_rows import scan_stream
from absa.errors import InvalidDataError

ROW = "the app {} is fine,app,1"


def read(content: str | bytes) -> tuple[list[tuple[str | None, ...]], list[int], list[str | None], list[int]]:
    """Cells, lines, reasons, and lines read as written."""
    file = io.BytesIO(content.encode() if isinstance(content, str) else content)
    layout = read_layout(file, "rows")
    cells, lines, reasons, as_written = [], [], [], []
    for _, block, records in scan_blocks(file, layout):
        rows = read_rows(block, records, layout, [layout.place(name) for name in ("text", "aspect", "label")])
        cells += zip(*(column.to_pylist() for column in rows.table.columns), strict=True)
        lines += rows.lines.tolist()
        reasons += rows.reasons.to_pylist()
        as_written += rows.as_written
    return cells, lines, reasons, as_written


def rows(*numbers: int) -> str:
    return "".join(f"{ROW.format(number)}\n" for number in numbers)


def test_unclosed_quote_keeps_every_line_after_it():
    cells, lines, reasons, as_written = read(f'text,aspect,label\n{rows(2)}"never closed app,app,1\n{rows(4, 5)}')
    assert lines == [2, 3, 4, 5]
    assert reasons == [None] * 4
    assert cells[1] == ('"never closed app', "app", "1")
    assert cells[3][0] == "the app 5 is fine"
    assert as_written == [3]


def test_unclosed_quote_of_several_lines_is_unreadable():
    cells, lines, reasons, _ = read(f'text,aspect,label\n"the app\nis slow\n{rows(4)}')
    assert lines == [2, 3, 4]
    assert reasons == [STRAY_QUOTE, MALFORMED, None]
    assert [row[0] for row in cells] == ['"the app', "is slow", "the app 4 is fine"]


@pytest.mark.parametrize(
    "later", ['"love it" said i of the app\tapp\t2', 'a "great" app\tapp\t0', 'my 15" app\tapp\t1']
)
def test_stray_quote_of_tabs_merges_no_lines(later):
    lines = ['"Best app ever\tapp\t2', *(f"the app {n}\tapp\t1" for n in range(30)), later, "the app\tapp\t1"]
    cells, _, reasons, as_written = read("\n".join(["text\taspect\tlabel", *lines]))
    assert [row[0] for row in cells] == [line.split("\t")[0] for line in lines]
    assert set(reasons) == {None}
    assert as_written[0] == 2


def test_quote_around_whole_rows_is_unreadable():
    content = f'text,aspect,label\n{rows(2)}"Best app ever,app,2\n{rows(4, 5)}my 15" app,app,1\n{rows(7)}'
    cells, lines, reasons, _ = read(content.replace('15" app', '15"'))
    assert lines == [2, 3, 4, 5, 6, 7]
    assert reasons == [None, *[AMBIGUOUS_QUOTE] * 4, None]
    assert cells[2][0] == ROW.format(4)


def test_lines_of_a_quoted_text_may_hold_commas():
    content = 'text,aspect,label\n"the app, well\ngood, bad, ugly\n\nthe ""app"", really",app,0\n'
    cells, lines, reasons, _ = read(content + rows(6))
    assert cells[0][0] == 'the app, well\ngood, bad, ugly\n\nthe "app", really'
    assert (lines, reasons) == ([2, 6], [None, None])


@pytest.mark.parametrize("delimiter", [",", "\t"])
def test_multiline_texts_are_read_in_any_column(delimiter):
    texts = ["the app\nis slow", "great app\r\n\r\nthe end", "the end\nof the app"]
    for header in (("text", "aspect", "label"), ("aspect", "label", "text"), ("text", "aspect", "label", "reply")):
        lines = [delimiter.join(header)]
        for text in texts:
            cells = {"text": f'"{text}"', "aspect": "app", "label": "1", "reply": '"thank you\nfor the app"'}
            lines.append(delimiter.join(cells[name] for name in header))
        cells, _, reasons, _ = read("\n".join(lines))
        assert [row[0] for row in cells] == texts
        assert set(reasons) == {None}


@pytest.mark.parametrize("delimiter", [",", "\t"])
def test_quote_in_the_last_column_merges_no_rows(delimiter):
    lines = ["aspect,label,text", 'app,1,"Best app ever', 'app,1,my 15" app', 'app,2,"Great app', 'app,0,app of 15"']
    cells, _, reasons, _ = read("\n".join(lines).replace(",", delimiter))
    assert reasons == [None, None, AMBIGUOUS_QUOTE, AMBIGUOUS_QUOTE]
    assert not any("\n" in str(row[0]) for row in cells)


def test_quotes_inside_a_text_are_read_as_written():
    cells, _, _, as_written = read('text,aspect,label\nmy 15" app,app,0\n"love it" said i of the app,app,2\n')
    assert [row[0] for row in cells] == ['my 15" app', '"love it" said i of the app']
    assert as_written == [3]


def test_quote_open_too_long_is_not_believed():
    cells, _, reasons, _ = read(
        'text,aspect,label\n"the app' + f"\n{'slow' * 300_000}" * 9 + '",app,1\nthe app,app,1\n'
    )
    assert len(cells) == 11
    assert reasons[0] == STRAY_QUOTE
    assert cells[-1][0] == "the app"


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_lines_end_with_lf_crlf_or_cr(line_end):
    content = f'text,aspect,label\n\n{rows(3)}"the\napp",app,2\n{rows(6)}'.replace("\n", line_end)
    cells, lines, _, _ = read(content)
    assert lines == [3, 4, 6]
    assert cells[1][0] == f"the{line_end}app"


def test_header_follows_empty_lines_and_byte_order_mark():
    cells, lines, _, _ = read(b"\xef\xbb\xbf\r\n\r\ntext,aspect,label\r\nthe app,app,1\r\n\r\n\r\nthe site,site,0")
    assert [row[0] for row in cells] == ["the app", "the site"]
    assert lines == [4, 7]


def test_unreadable_rows_stay_in_their_place():
    cells, lines, reasons, _ = read(b'text,aspect,label\na,a,1\n"b, b"\nc,c,1\nd\n\xff,d,1\ne,e,1')
    assert lines == [2, 3, 4, 5, 6, 7]
    assert reasons == [None, MALFORMED, None, MALFORMED, "invalid_utf8", None]
    assert [row[0] for row in cells] == ["a", '"b, b"', "c", "d", "�,d,1", "e"]


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_parts_parse_to_rows_of_whole_file(line_end):
    """Parts are cut before their quotes are judged again, elsewhere."""
    drawn = random.Random(3)
    cells = [
        "app",
        'a"b',
        '"app',
        'app"',
        '"the app"',
        '"say ""app"""',
        f'"two{line_end}apps"',
        f'"app,app,1{line_end}x"',
        "",
    ]
    lines = [",".join(drawn.choices(cells, k=drawn.choice((3, 3, 3, 3, 2)))) for _ in range(800)]
    data = line_end.join(["text,aspect,label", *lines, ""]).encode()
    whole = pl.concat(scan_stream(io.BytesIO(data), "rows.csv"))
    small = pl.concat(scan_stream(io.BytesIO(data), "rows.csv", block_bytes=200))
    assert small.equals(whole)
    assert whole["reason"].n_unique() > 3


@pytest.mark.parametrize(
    ("name", "line"), [("rows.csv", b"app,app,%d"), ("rows.jsonl", b'{"text":"app","aspect":"app","label":%d}')]
)
def test_bytes_that_are_not_utf8_are_named(name, line):
    rows = [line % n for n in range(100)]
    rows[70] = line.replace(b"app", b"ap\xff", 1) % 70
    data = b"\r\n".join([b"text,aspect,label" if name.endswith("csv") else rows[0], *rows])
    with pytest.raises(InvalidDataError, match=f"is not UTF-8 at line 72, byte {line.index(b'app') + 3};"):
        list(scan_stream(io.BytesIO(data), name, block_bytes=300))
