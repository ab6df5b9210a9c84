"""Lake in a local folder or an S3 bucket. Keys are relative, with `/` between parts."""

import os
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlparse

from absa.errors import AlreadyExistsError, NotFoundError, PermanentError, UnavailableError
from absa.records.files import STAGED, write_whole
from absa.records.lake import Lake

_CONNECT_S: Final = 5.0  # limit of one attempt to connect
_READ_S: Final = 20.0  # limit between two bytes; with botocore's 60 s, a lake that hangs would go unnoticed for minutes


class FolderLake:
    """Lake in a local folder, made on the first write."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.uri = str(self.root)

    def _path(self, key: str) -> Path:
        path = self.root / key
        if ".." in Path(key).parts or Path(key).is_absolute():
            raise PermanentError(f"a lake key is relative and has no '..', got {key!r}")
        return path

    def read(self, key: str) -> bytes:
        """Return the bytes of a key; NotFoundError if the key does not exist."""
        try:
            return self._path(key).read_bytes()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise NotFoundError(f"{self.uri} holds no {key}") from None

    def _put(self, key: str, data: bytes, *, create: bool) -> None:
        path = self._path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, data, mode=0o600, sync=True, create=create)
        except FileExistsError:
            raise AlreadyExistsError(f"{key} exists already in {self.uri}") from None
        except OSError as error:
            raise UnavailableError(f"the lake at {self.uri} cannot be written: {error.strerror}") from error

    def write(self, key: str, data: bytes) -> None:
        """Write a key and replace its earlier content."""
        self._put(key, data, create=False)

    def create(self, key: str, data: bytes) -> None:
        """Write a new key; AlreadyExistsError if the key exists."""
        self._put(key, data, create=True)

    def exists(self, key: str) -> bool:
        """Return True if the key exists."""
        return self._path(key).is_file()

    def list(self, prefix: str) -> list[str]:
        """Return the keys that start with the prefix, sorted."""
        folder = self._path(prefix if prefix.endswith("/") else str(Path(prefix).parent))
        if not folder.is_dir():
            return []
        keys: list[str] = []
        for parent, _, names in os.walk(folder):
            relative = Path(parent).relative_to(self.root)
            keys += [(relative / name).as_posix() for name in names if not name.startswith(STAGED)]
        return sorted(key for key in keys if key.startswith(prefix))

    def delete(self, key: str) -> None:
        """Delete a key; a missing key is not an error."""
        self._path(key).unlink(missing_ok=True)

    def url(self, key: str) -> str:
        """Return the address of a key for other libraries."""
        return str(self._path(key))


class S3Lake:
    """Lake under s3://bucket/prefix. Endpoint and credentials come from the AWS_* environment."""

    def __init__(self, uri: str, client: Any = None) -> None:
        parsed = urlparse(uri)
        if parsed.scheme != "s3" or not parsed.netloc:
            raise PermanentError(f"an S3 lake reads s3://bucket/prefix, got {uri!r}")
        self.uri = uri.rstrip("/")
        self._bucket = parsed.netloc
        self._prefix = parsed.path.strip("/")
        if client is None:
            import boto3
            from botocore.config import Config

            client = boto3.client("s3", config=Config(connect_timeout=_CONNECT_S, read_timeout=_READ_S))
        self._s3 = client

    def _name(self, key: str) -> str:
        return f"{self._prefix}/{key}" if self._prefix else key

    def _translate(self, error: Exception, key: str) -> Exception:
        from botocore.exceptions import BotoCoreError, ClientError

        if isinstance(error, ClientError):
            code = str(error.response.get("Error", {}).get("Code", ""))
            if code in {"NoSuchKey", "404", "NotFound"}:
                return NotFoundError(f"{self.uri} holds no {key}")
            if code in {"PreconditionFailed", "ConditionalRequestConflict", "412", "409"}:
                return AlreadyExistsError(f"{key} exists already in {self.uri}")
            return UnavailableError(f"the lake at {self.uri} answered {code} for {key}")
        if isinstance(error, BotoCoreError):
            return UnavailableError(f"the lake at {self.uri} is unavailable: {type(error).__name__}")
        return error

    def read(self, key: str) -> bytes:
        """Return the bytes of a key; NotFoundError if the key does not exist."""
        try:
            body: bytes = self._s3.get_object(Bucket=self._bucket, Key=self._name(key))["Body"].read()
        except Exception as error:
            raise self._translate(error, key) from error
        return body

    def write(self, key: str, data: bytes) -> None:
        """Write a key and replace its earlier content."""
        try:
            self._s3.put_object(Bucket=self._bucket, Key=self._name(key), Body=data)
        except Exception as error:
            raise self._translate(error, key) from error

    def create(self, key: str, data: bytes) -> None:
        """Write a new key; AlreadyExistsError if the key exists."""
        try:
            self._s3.put_object(Bucket=self._bucket, Key=self._name(key), Body=data, IfNoneMatch="*")
        except Exception as error:
            translated = self._translate(error, key)
            if isinstance(translated, AlreadyExistsError) and _was_repeated(error) and self._holds(key, data):
                return  # the answer to the first request was lost: the existing object is our own
            raise translated from error

    def _holds(self, key: str, data: bytes) -> bool:
        try:
            return self.read(key) == data
        except NotFoundError:  # the request of another writer has not finished yet
            return False

    def exists(self, key: str) -> bool:
        """Return True if the key exists."""
        try:
            self._s3.head_object(Bucket=self._bucket, Key=self._name(key))
        except Exception as error:
            translated = self._translate(error, key)
            if isinstance(translated, NotFoundError):
                return False
            raise translated from error
        return True

    def list(self, prefix: str) -> list[str]:
        """Return the keys that start with the prefix, sorted."""
        start = len(self._name(""))
        try:
            pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._name(prefix))
            return sorted(item["Key"][start:] for page in pages for item in page.get("Contents", []))
        except Exception as error:
            raise self._translate(error, prefix) from error

    def delete(self, key: str) -> None:
        """Delete a key; a missing key is not an error."""
        try:
            self._s3.delete_object(Bucket=self._bucket, Key=self._name(key))
        except Exception as error:
            raise self._translate(error, key) from error

    def url(self, key: str) -> str:
        """Return the address of a key for other libraries."""
        return f"{self.uri}/{key}"


def _was_repeated(error: Exception) -> bool:
    """Return True if botocore sent a request more than once before it was refused."""
    answer: dict[str, Any] = getattr(error, "response", {})
    return bool(answer.get("ResponseMetadata", {}).get("RetryAttempts"))


def open_lake(uri: str) -> Lake:
    """Return the lake at s3://bucket/prefix, file:///folder or a folder's path."""
    if uri.startswith("s3://"):
        return S3Lake(uri)
    return FolderLake(Path(uri.removeprefix("file://")))
