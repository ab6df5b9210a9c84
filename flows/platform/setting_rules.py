"""Relations between settings: what one value allows another to be. Pure but for files that a setting names."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from absa.data.label_codes import read_label_codes
from absa.errors import NotFoundError, PermanentError
from absa.modeling.folders import CONFIG, PACKAGED, find_base

if TYPE_CHECKING:
    from flows.platform.settings import Settings

_HEAD_WIDTH: Final = 32  # of a narrow student


def contradictions(settings: "Settings") -> Iterator[str]:
    """Yield a sentence for each value that another one does not allow."""
    depth, width = base_size(settings.base_model)
    if settings.layers is not None and depth is not None and settings.layers > depth:
        yield f"EVERGREEN_LAYERS: expected 1 to {depth}, the layers of {settings.base_model}, got {settings.layers}"
    learning, kept = settings.warm_layers, settings.layers or depth
    if learning is not None and kept is not None and learning > kept:
        yield f"EVERGREEN_WARM_LAYERS: expected 0 to {kept}, the layers of the model, got {learning}"
    if settings.hidden is not None:
        most = width or settings.hidden
        if settings.hidden > most or (settings.hidden != width and settings.hidden % _HEAD_WIDTH):
            limit = f" up to {width}, the width of {settings.base_model}" if width else ""
            yield f"EVERGREEN_HIDDEN: expected a multiple of {_HEAD_WIDTH}{limit}, got {settings.hidden}"
    if settings.reference_rows < settings.min_window_rows:
        yield (
            f"EVERGREEN_REFERENCE_ROWS: expected at least EVERGREEN_MIN_WINDOW_ROWS ({settings.min_window_rows}), "
            f"or no window is ever judged, got {settings.reference_rows}"
        )
    if bool(settings.training_queue_names) != bool(settings.training_definition.strip()):
        yield "EVERGREEN_TRAINING_QUEUES and EVERGREEN_TRAINING_DEFINITION: expected both or neither"
    ports = list(settings.fixed_ports.values())
    if twice := sorted({port for port in ports if ports.count(port) > 1}):
        names = [f"EVERGREEN_{part.upper()}_PORT" for part, port in settings.fixed_ports.items() if port == twice[0]]
        yield f"{' and '.join(names)}: expected different ports, got {twice[0]} for each"
    if settings.lake is not None and "://" in settings.lake and not settings.lake.startswith("s3://"):
        yield f"EVERGREEN_LAKE: expected a folder or s3://bucket/prefix, got {settings.lake!r}"
    for name in ("alert_url", "evidently_url", "router_url"):
        url = getattr(settings, name)
        if url is not None and not url.startswith(("http://", "https://")):
            yield f"EVERGREEN_{name.upper()}: expected http://... or https://..., got {url!r}"
    yield from _unusable_paths(settings)


def _unusable_paths(settings: "Settings") -> Iterator[str]:
    if settings.home.exists() and not settings.home.is_dir():
        yield f"EVERGREEN_HOME: expected a folder, got the file {settings.home}"
    if settings.config is not None:
        try:
            read_label_codes(settings.config)
        except PermanentError as error:
            yield str(error)


def base_size(name: str) -> tuple[int | None, int | None]:
    """Return layers and width of a base model, None each where they are not known without a download."""
    if name != PACKAGED and not Path(name).expanduser().is_dir():
        return None, None
    try:
        config = json.loads((find_base(name) / CONFIG).read_text(encoding="utf-8"))
        return int(config["num_hidden_layers"]), int(config["hidden_size"])
    except (NotFoundError, OSError, ValueError, KeyError, TypeError):
        return None, None  # the training that reads the base says what is wrong with it
