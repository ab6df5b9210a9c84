"""Sources of an ingest: files, folders and s3:// prefixes, each as a seekable stream of bytes."""

import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Literal
from urllib.parse import urlparse

from absa.data.files.json_lines import lines_of_array
from absa.data.files.workbooks import sheet_as_csv
from absa.errors import InvalidDataError, UnavailableError

ENDINGS: Final = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")  # in folders, where .json may be anything
WORKBOOKS: Final = (".xlsx", ".xlsm")
_OTHER_WORKBOOKS: Final = (".xls", ".xlsb", ".ods", ".numbers")
_JSON_ENDINGS: Final = (".jsonl", ".ndjson", ".json")
READ_AHEAD_BYTES: Final = 8 << 20


@dataclass(frozen=True)
class SourceFile:
    """One file to ingest."""

    uri: str
    size_bytes: int

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.uri.rstrip("/").rsplit("/", 1)[-1]

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Open the file's bytes as a seekable stream that is read on demand."""
        if self.uri.startswith("s3://"):
            with io.BufferedReader(_S3File(self), READ_AHEAD_BYTES) as stream:
                yield readable(stream, self.uri)
        else:
            try:
                file = Path(self.uri).open("rb")  # noqa: SIM115  closed below; errors of the caller's block are not translated
            except OSError as error:
                raise InvalidDataError(f"{self.uri} cannot be read: {error.strerror}") from None
            with file:
                yield readable(file, self.uri)


def readable(file: IO[bytes], uri: str) -> IO[bytes]:
    """Return a file's stream; elements of a JSON array become lines, the sheet of an Excel workbook becomes CSV.

    Raises:
        InvalidDataError: see `kind_of`, `lines_of_array` and `sheet_as_csv`.
    """
    if uri.lower().endswith(WORKBOOKS):
        return sheet_as_csv(file, uri)
    return lines_of_array(file, uri) if kind_of(uri) == "jsonl" else file


def kind_of(uri: str) -> Literal["parquet", "jsonl", "csv"]:
    """Return the format of a file by the ending of its name; an unknown ending is read as CSV.

    Raises:
        InvalidDataError: the file is a workbook, but not in the format of Excel since 2007.
    """
    name = uri.lower()
    if name.endswith(_OTHER_WORKBOOKS):
        raise InvalidDataError(
            f"{uri} is a workbook; expected CSV, JSONL, Parquet or .xlsx: save its sheet as CSV in UTF-8"
        )
    if name.endswith(".parquet"):
        return "parquet"
    return "jsonl" if name.endswith(_JSON_ENDINGS) else "csv"


def find_sources(path: str) -> list[SourceFile]:
    """Return the file at a path, or the files of a folder or s3:// prefix, sorted by name.

    Hidden files and folders, whose names start with a dot, are not input.

    Raises:
        InvalidDataError: there is nothing to read, or a file is empty.
        UnavailableError: S3 is unavailable.
    """
    if path.startswith("s3://"):
        found = _list_s3(path)
    else:
        place = Path(path)
        if not place.exists():
            raise InvalidDataError(f"{path} is missing; expected a CSV, JSONL or Parquet file, a folder or s3://")
        inside = (p for p in place.rglob("*") if p.is_file() and not hidden(p.relative_to(place).parts))
        files = sorted(inside) if place.is_dir() else [place]
        wanted = [p for p in files if p.suffix.lower() in ENDINGS] if place.is_dir() else files
        found = [SourceFile(str(p), p.stat().st_size) for p in wanted]
    if not found:
        raise InvalidDataError(f"{path} holds no file that ends in {', '.join(ENDINGS)}")
    for source in found:
        kind_of(source.uri)  # refuses workbooks of other programs
        if source.size_bytes == 0:
            raise InvalidDataError(f"{source.uri} is empty; expected a header and rows")
    return found


def hidden(parts: Iterable[str]) -> bool:
    """Return True if a part of a path starts with a dot, which marks files that are not data. Pure."""
    return any(part.startswith(".") for part in parts)


def _client() -> Any:
    import boto3

    return boto3.client("s3")


def _list_s3(uri: str) -> list[SourceFile]:
    from botocore.exceptions import BotoCoreError, ClientError

    parsed = urlparse(uri)
    prefix = parsed.path.lstrip("/")
    try:
        pages = _client().get_paginator("list_objects_v2").paginate(Bucket=parsed.netloc, Prefix=prefix)
        items = [item for page in pages for item in page.get("Contents", [])]
    except (BotoCoreError, ClientError) as error:
        raise UnavailableError(f"{uri} cannot be listed: {type(error).__name__}") from error
    files = (i for i in items if not i["Key"].endswith("/"))  # consoles create an empty object for a folder
    inside = (i for i in files if i["Key"] == prefix or not prefix or i["Key"].startswith(prefix.rstrip("/") + "/"))
    return [
        SourceFile(f"s3://{parsed.netloc}/{item['Key']}", item["Size"])
        for item in inside
        if item["Key"] == prefix
        or (item["Key"].lower().endswith(ENDINGS) and not hidden(item["Key"].removeprefix(prefix).split("/")))
    ]


class _S3File(io.RawIOBase):
    """S3 object that is read by ranges, so that memory is bounded and Parquet can seek."""

    def __init__(self, source: SourceFile) -> None:
        parsed = urlparse(source.uri)
        self._bucket, self._key = parsed.netloc, parsed.path.lstrip("/")
        self._uri, self._size, self._at = source.uri, source.size_bytes, 0
        self._s3 = _client()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        from botocore.exceptions import BotoCoreError, ClientError

        wanted = min(len(buffer), self._size - self._at)
        if wanted <= 0:
            return 0
        try:
            answer = self._s3.get_object(
                Bucket=self._bucket, Key=self._key, Range=f"bytes={self._at}-{self._at + wanted - 1}"
            )
            data = answer["Body"].read()
        except (BotoCoreError, ClientError) as error:
            raise UnavailableError(f"{self._uri} cannot be read: {type(error).__name__}") from error
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
