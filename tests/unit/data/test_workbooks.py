"""Excel workbooks as input: one sheet with rows is read as CSV, and what cannot be read gets one sentence."""

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO
from xml.sax.saxutils import escape

import polars as pl
import pytest

from absa.data.files.workbooks import sheet_as_csv
from absa.errors import InvalidDataError

ROWS = [["text", "label"], ['the "app", slow', "0"], ["fine\nso far", "2"]]
_MAIN = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
_RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"


def sheets(*frames: pl.DataFrame) -> Mapping[str, pl.DataFrame]:
    return {f"Sheet{number}": frame for number, frame in enumerate(frames, start=1)}


def workbook(path: Path, rows: list[list[str]]) -> Path:
    """Write a workbook of one sheet with texts in its cells."""
    cells = "".join(
        "<row>" + "".join(f'<c t="inlineStr"><is><t xml:space="preserve">{escape(cell)}</t></is></c>' for cell in row)
        + "</row>"
        for row in rows
    )  # fmt: skip
    kinds = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{_PACKAGE}/content-types">'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Override PartName="/xl/workbook.xml" ContentType="{kinds}.sheet.main+xml"/>'
        f'<Override PartName="/xl/worksheets/sheet1.xml" ContentType="{kinds}.worksheet+xml"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{_PACKAGE}/relationships"><Relationship Id="r1" '
        f'Type="{_RELATIONS}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook {_MAIN} xmlns:r="{_RELATIONS}"><sheets>'
        '<sheet name="Reviews" sheetId="1" r:id="r1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{_PACKAGE}/relationships"><Relationship Id="r1" '
        f'Type="{_RELATIONS}/worksheet" Target="worksheets/sheet1.xml"/></Relationships>',
        "xl/worksheets/sheet1.xml": f"<worksheet {_MAIN}><sheetData>{cells}</sheetData></worksheet>",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, f'<?xml version="1.0" encoding="UTF-8"?>{content}')
    return path


def test_sheet_with_rows_becomes_csv() -> None:
    rows = pl.DataFrame(ROWS[1:], schema=ROWS[0], orient="row")
    file = sheet_as_csv(io.BytesIO(b"x"), "a.xlsx", sheets=lambda _: sheets(pl.DataFrame(), rows))
    assert file.read() == b'text,label\n"the ""app"", slow",0\n"fine\nso far",2\n'


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        ([], "a.xlsx: expected one sheet with a header and rows, got none: save one sheet as CSV"),
        ([pl.DataFrame({"a": ["1"]})] * 2, "got Sheet1, Sheet2: save one sheet as CSV"),
    ],
)
def test_workbook_without_one_sheet_is_refused(found: list[pl.DataFrame], sentence: str) -> None:
    with pytest.raises(InvalidDataError, match=sentence):
        sheet_as_csv(io.BytesIO(b"x"), "a.xlsx", sheets=lambda _: sheets(*found))


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            ModuleNotFoundError("fastexcel"),
            r"needs the package fastexcel: install evergreen\[excel\], or save",
        ),
        (ValueError("zip"), r"a.xlsx is not a workbook that can be read \(ValueError\)"),
    ],
)
def test_unreadable_workbook_gets_one_sentence(error: Exception, sentence: str) -> None:
    def fail(_: IO[bytes]) -> Mapping[str, pl.DataFrame]:
        raise error

    with pytest.raises(InvalidDataError, match=sentence):
        sheet_as_csv(io.BytesIO(b"x"), "a.xlsx", sheets=fail)


def test_excel_file_is_read_as_its_rows(tmp_path: Path) -> None:
    pytest.importorskip("fastexcel", reason="optional dependency evergreen[excel]")
    path = workbook(tmp_path / "reviews.xlsx", ROWS)
    with path.open("rb") as file:
        assert sheet_as_csv(file, str(path)).read() == b'text,label\n"the ""app"", slow",0\n"fine\nso far",2\n'
