"""Whatever bytes a delimited file holds, each line belongs to one row, and blocks and cuts change nothing."""

import csv
import io
import string

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from absa.data.files.delimited import AMBIGUOUS_QUOTE, Layout, find_records, read_layout, scan_blocks
from absa.data.files.delimited_rows import read_rows

HEADER = "text,aspect,label\n"
JUNK = st.text(st.sampled_from('ab",\n\r '), max_size=80)
CELLS = st.text(st.sampled_from('ab",\n x'), max_size=8)
TABLES = st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=1, max_size=6)
Read = tuple[list[tuple[str | None, ...]], list[int], list[str | None], list[tuple[int, int]]]


def read(data: bytes, block_bytes: int) -> tuple[Layout, Read]:
    """The cells, lines, reasons and places of every row."""
    file = io.BytesIO(data)
    layout = read_layout(file, "rows")
    cells: list[tuple[str | None, ...]] = []
    lines: list[int] = []
    reasons: list[str | None] = []
    places: list[tuple[int, int]] = []
    for base, block, records in scan_blocks(file, layout, block_bytes):
        rows = read_rows(block, records, layout, range(len(layout.header)))
        cells += zip(*(column.to_pylist() for column in rows.table.columns), strict=True)
        lines += rows.lines.tolist()
        reasons += rows.reasons.to_pylist()
        places += zip((records.starts + base).tolist(), (records.ends + base).tolist(), strict=True)
    return layout, (cells, lines, reasons, places)


@settings(max_examples=300)
@given(JUNK, st.integers(1, 40))
def test_blocks_of_any_size_give_the_same_rows(body, block_bytes):
    data = (HEADER + body).encode()
    assert read(data, block_bytes) == read(data, 1 << 20)


@settings(max_examples=300)
@given(JUNK)
def test_lines_belong_to_one_row_each(body):
    data = (HEADER + body).encode()
    layout, (_, lines, _, places) = read(data, 1 << 20)
    end = layout.start
    for start, until in places:
        assert not data[end:start].strip(b"\r\n")
        end = until
    assert not data[end:].strip(b"\r\n")
    assert lines == sorted(set(lines))


@settings(max_examples=300)
@given(JUNK, st.data())
def test_parts_have_the_rows_of_the_whole(body, data):
    content = (HEADER + body).encode()
    layout, (_, lines, _, places) = read(content, 1 << 20)
    assume(places)
    whole = find_records(content[layout.start :], layout, line=layout.line, final=True)
    at = data.draw(st.integers(0, len(places) - 1))
    assume(not whole.glued[at])
    part = find_records(content[places[at][0] : places[-1][1]], layout, line=lines[at], final=True)
    assert part.kinds.tolist() == whole.kinds.tolist()[at:]
    assert part.lines.tolist() == lines[at:]


@settings(max_examples=300)
@given(TABLES, st.sampled_from(["\n", "\r\n"]), st.integers(1, 60))
def test_quoting_files_are_read_as_written(table, line_end, block_bytes):
    written = io.StringIO()
    csv.writer(written, lineterminator=line_end).writerows([("text", "aspect", "label"), *table])
    _, (cells, _, reasons, _) = read(written.getvalue().encode(), block_bytes)
    assume(AMBIGUOUS_QUOTE not in reasons)  # a cell that holds a row is not read at all
    assert cells == table
    assert not any(reasons)


@settings(max_examples=300)
@given(
    st.lists(st.lists(st.text(st.sampled_from('ab", x'), min_size=1, max_size=8), min_size=3, max_size=3), min_size=1)
)
def test_files_that_do_not_quote_lose_no_line(table):
    lines = ["\t".join(row) for row in table]
    _, (cells, numbers, _, _) = read("\n".join(["text\taspect\tlabel", *lines]).encode(), 64)
    assert numbers == list(range(2, len(table) + 2))
    assert not any("\n" in cell for row in cells for cell in row if cell)


@given(st.text(string.printable, max_size=300))
def test_any_header_gives_a_layout(text):
    layout = read_layout(io.BytesIO(text.replace("\0", "").encode()), "rows")
    assert layout.start <= len(text)
