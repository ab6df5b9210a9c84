"""Sheet of an Excel workbook as CSV. Polars reads it with fastexcel, an optional dependency."""

import io
from collections.abc import Callable, Mapping
from typing import IO, TYPE_CHECKING

from absa.errors import InvalidDataError

if TYPE_CHECKING:
    import polars as pl

ReadSheets = Callable[[IO[bytes]], Mapping[str, "pl.DataFrame"]]
"""Reader of the sheets of a workbook by name, every cell as text; raises ModuleNotFoundError without fastexcel."""


def read_sheets(file: IO[bytes]) -> Mapping[str, "pl.DataFrame"]:
    """Return the sheets of a workbook by name, every cell as text."""
    import polars as pl  # slow, and few files are workbooks

    return pl.read_excel(
        io.BytesIO(file.read()), sheet_id=0, infer_schema_length=0, raise_if_empty=False, drop_empty_rows=False
    )


def sheet_as_csv(file: IO[bytes], uri: str, *, sheets: ReadSheets = read_sheets) -> IO[bytes]:
    """Return the only sheet that has rows as a CSV stream; rows keep their numbers.

    Args:
        file: workbook of at most a million rows, which is read whole.
        uri: address of the file, for messages.
        sheets: reader of the sheets.

    Raises:
        InvalidDataError: fastexcel is missing, the file is not a workbook, or not exactly one sheet has rows.
    """
    try:
        found = sheets(file)
    except ModuleNotFoundError:
        raise InvalidDataError(
            f"{uri} is a workbook, which needs the package fastexcel: install evergreen[excel], or save its sheet as "
            "CSV in UTF-8"
        ) from None
    except Exception as error:  # fastexcel and polars have no common base error
        raise InvalidDataError(f"{uri} is not a workbook that can be read ({type(error).__name__})") from error
    filled = {name: sheet for name, sheet in found.items() if sheet.height}
    if len(filled) != 1:
        names = ", ".join(filled) or "none"
        raise InvalidDataError(f"{uri}: expected one sheet with a header and rows, got {names}: save one sheet as CSV")
    (sheet,) = filled.values()
    return io.BytesIO(sheet.write_csv().encode())
