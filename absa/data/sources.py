"""Where an ingest reads from: files, folders and s3:// prefixes, each as a seekable stream of bytes."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import urlparse

from absa.errors import InvalidDataError, UnavailableError

ENDINGS: Final = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
READ_AHEAD_BYTES: Final = 8 << 20


@dataclass(frozen=True)
class Source:
    """One file to ingest."""

    uri: str
    size_bytes: int

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.uri.rstrip("/").rsplit("/", 1)[-1]

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """The file's bytes, seekable, read as they are asked for."""
        if self.uri.startswith("s3://"):
            with io.BufferedReader(_S3File(self), READ_AHEAD_BYTES) as stream:
                yield stream
        else:
            try:
                file = Path(self.uri).open("rb")  # noqa: SIM115  closed below; what the body raises is not ours to name
            except OSError as error:
                raise InvalidDataError(f"{self.uri} cannot be read: {error.strerror}") from None
            with file:
                yield file


def find_sources(path: str) -> list[Source]:
    """The files behind a path: itself, or what lies in the folder or under the s3:// prefix, by name.

    Raises:
        InvalidDataError: there is nothing to read, or a file is empty.
        UnavailableError: S3 does not answer.
    """
    if path.startswith("s3://"):
        found = _list_s3(path)
    else:
        place = Path(path)
        if not place.exists():
            raise InvalidDataError(f"{path} is missing; expected a CSV, JSONL or Parquet file, a folder or s3://")
        files = sorted(p for p in place.rglob("*") if p.is_file()) if place.is_dir() else [place]
        wanted = [p for p in files if p.suffix.lower() in ENDINGS] if place.is_dir() else files
        found = [Source(str(p), p.stat().st_size) for p in wanted]
    if not found:
        raise InvalidDataError(f"{path} holds no file that ends in {', '.join(ENDINGS)}")
    for source in found:
        if source.size_bytes == 0:
            raise InvalidDataError(f"{source.uri} is empty; expected the columns text, aspect and label")
    return found


def _client() -> Any:
    import boto3

    return boto3.client("s3")


def _list_s3(uri: str) -> list[Source]:
    from botocore.exceptions import BotoCoreError, ClientError

    parsed = urlparse(uri)
    prefix = parsed.path.lstrip("/")
    try:
        pages = _client().get_paginator("list_objects_v2").paginate(Bucket=parsed.netloc, Prefix=prefix)
        items = [item for page in pages for item in page.get("Contents", [])]
    except (BotoCoreError, ClientError) as error:
        raise UnavailableError(f"{uri} cannot be listed: {type(error).__name__}") from error
    files = (i for i in items if not i["Key"].endswith("/"))  # a console marks a folder by an empty object
    inside = (i for i in files if i["Key"] == prefix or not prefix or i["Key"].startswith(prefix.rstrip("/") + "/"))
    return [
        Source(f"s3://{parsed.netloc}/{item['Key']}", item["Size"])
        for item in inside
        if item["Key"] == prefix or item["Key"].lower().endswith(ENDINGS)
    ]


class _S3File(io.RawIOBase):
    """An S3 object read by ranges, so that memory stays bounded and Parquet can seek."""

    def __init__(self, source: Source) -> None:
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
