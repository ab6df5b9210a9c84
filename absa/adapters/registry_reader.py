"""The registry over REST, for processes that have no mlflow: which versions there are, and their package files."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode, urlparse
from urllib.request import Request

from absa.errors import IntegrityError, NotFoundError, UnavailableError
from absa.proxies import open_url, require_route

PACKAGE_FILES: Final = (
    "model.onnx",
    "tokenizer.json",
    "config.json",
    "calibration.json",
    "gate.json",
    "gate.html",
    "model_card.md",
    "warmup.jsonl",
)
REQUIRED_FILES: Final = ("model.onnx", "tokenizer.json", "config.json", "calibration.json", "warmup.jsonl")
HEAD_NUMBER: Final = "ledger_number"  # tags of the registered model: the ledger's head when aliases were last set
HEAD_HASH: Final = "ledger_hash"
_ARTIFACTS: Final = "artifacts"  # where an MLflow pyfunc keeps the files that were handed to it


@dataclass(frozen=True, kw_only=True, slots=True)
class RegisteredModel:
    """The model as the registry knows it: its aliases, and the ledger's head when they were last set."""

    aliases: dict[str, str]
    anchor: tuple[int, str] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class RegisteredVersion:
    """A version as the registry knows it. `source` says where its files lie."""

    version: str
    source: str
    tags: dict[str, str]


class RegistryReader:
    """Reads one registered model from an MLflow server.

    Args:
        tracking_uri: http(s) address of the server.
        model: name of the registered model.
        timeout_s: bound of each request.
    """

    def __init__(self, tracking_uri: str, model: str = "absa", *, timeout_s: float = 10.0) -> None:
        self._base = tracking_uri.rstrip("/")
        self._model = model
        self._timeout_s = timeout_s

    def _open(self, path: str) -> bytes:
        request = Request(self._base + path)  # noqa: S310  the address is the operator's setting
        token = os.environ.get("MLFLOW_TRACKING_TOKEN")
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        require_route(self._base, os.environ)
        try:
            with open_url(request, timeout_s=self._timeout_s) as response:
                body: bytes = response.read()
        except HTTPError as error:
            if error.code == 404:
                raise NotFoundError(f"the registry has no {path.partition('?')[0]}") from None
            raise UnavailableError(f"the registry at {self._base} answered {error.code}") from None
        except (URLError, OSError) as error:
            raise UnavailableError(f"the registry at {self._base} is unavailable: {error}") from None
        return body

    def _get(self, call: str, **query: str) -> dict[str, Any]:
        body = self._open(f"/api/2.0/mlflow/{call}?{urlencode(query)}")
        try:
            answer = json.loads(body)
        except ValueError:
            raise UnavailableError(f"the registry at {self._base} did not answer with JSON") from None
        if not isinstance(answer, dict):
            raise UnavailableError(f"the registry at {self._base} did not answer with an object")
        return answer

    def version(self, version: str) -> RegisteredVersion:
        """One version.

        Raises:
            NotFoundError: the registry has no such version.
            UnavailableError: the registry does not answer, or answers rubbish.
        """
        try:
            found = self._get("model-versions/get", name=self._model, version=version)["model_version"]
            uri = self._get("model-versions/get-download-uri", name=self._model, version=version)["artifact_uri"]
            tags = {tag["key"]: tag["value"] for tag in found.get("tags", [])}
            return RegisteredVersion(version=str(found["version"]), source=str(uri), tags=tags)
        except (KeyError, TypeError) as error:
            raise UnavailableError(f"the registry's answer for version {version} lacks {error}") from None

    def model(self) -> RegisteredModel:
        """The registered model.

        Raises:
            NotFoundError: nothing was ever registered.
            UnavailableError: the registry does not answer, or answers rubbish.
        """
        try:
            found = self._get("registered-models/get", name=self._model)["registered_model"]
            aliases = {str(each["alias"]): str(each["version"]) for each in found.get("aliases", [])}
            tags = {tag["key"]: tag["value"] for tag in found.get("tags", [])}
            anchored = HEAD_NUMBER in tags and HEAD_HASH in tags
            anchor = (int(tags[HEAD_NUMBER]), str(tags[HEAD_HASH])) if anchored else None
            return RegisteredModel(aliases=aliases, anchor=anchor)
        except (KeyError, TypeError, ValueError) as error:
            raise UnavailableError(f"the registry's answer for {self._model} lacks {error}") from None

    def fetch(self, version: str, folder: Path) -> None:
        """Put a version's package files into a folder of the caller's own.

        One that is given up leaves some of them there; whether they are whole, and digests, are the caller's to check.

        Raises:
            NotFoundError: the version, or a file that it needs, does not exist.
            UnavailableError: the registry does not answer.
            IntegrityError: the version's files lie where this reader cannot look.
        """
        source = self.version(version).source
        folder.mkdir(parents=True, exist_ok=True)
        for name in PACKAGE_FILES:
            try:
                data = self._read_artifact(source, name)
            except NotFoundError:
                if name in REQUIRED_FILES:
                    raise NotFoundError(f"version {version} has no {name} in the registry") from None
                continue
            (folder / name).write_bytes(data)

    def _read_artifact(self, source: str, name: str) -> bytes:
        parsed = urlparse(source)
        path = f"{parsed.path.strip('/')}/{_ARTIFACTS}/{name}"
        if parsed.scheme == "mlflow-artifacts":
            return self._open(f"/api/2.0/mlflow-artifacts/artifacts/{quote(path)}")
        if parsed.scheme == "s3":
            from absa.adapters.lake import S3Lake

            return S3Lake(f"s3://{parsed.netloc}").read(path)
        if parsed.scheme in {"", "file"}:
            file = Path("/" + path) if parsed.path.startswith("/") else Path(path)
            if not file.is_file():
                raise NotFoundError(f"no {name}")
            return file.read_bytes()
        raise IntegrityError(f"no reader for model files under {parsed.scheme}://; use mlflow-artifacts, s3 or file")
