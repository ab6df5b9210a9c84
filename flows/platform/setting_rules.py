"""Relations between settings: what one value allows another to be. Pure but for files that a setting names."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import SecretStr

from absa.configuration import CONFIGURATION_FILE
from absa.data.label_codes import read_label_codes
from absa.errors import NotFoundError, PermanentError
from absa.modeling.folders import CONFIG, PACKAGED, find_base
from absa.policies import TrainingRecipe

if TYPE_CHECKING:
    from flows.platform.settings import Settings


def contradictions(settings: "Settings") -> Iterator[str]:
    """Yield a sentence for each value that another one does not allow."""
    yield from _misfits(settings.training, where=f"[training] of {settings.config or CONFIGURATION_FILE}")
    if bool(settings.training_queue_names) != bool(settings.training_definition.strip()):
        yield "EVERGREEN_TRAINING_QUEUES and EVERGREEN_TRAINING_DEFINITION: expected both or neither"
    ports = list(settings.fixed_ports.values())
    if twice := sorted({port for port in ports if ports.count(port) > 1}):
        names = [f"EVERGREEN_{part.upper()}_PORT" for part, port in settings.fixed_ports.items() if port == twice[0]]
        yield f"{' and '.join(names)}: expected different ports, got {twice[0]} for each"
    for name in ("alert_url", "evidently_url", "router_url"):
        given = getattr(settings, name)
        url = given.get_secret_value() if isinstance(given, SecretStr) else given
        if url is not None and not url.startswith(("http://", "https://")):
            shown = "" if url is not given else f", got {url!r}"
            yield f"EVERGREEN_{name.upper()}: expected http://... or https://...{shown}"
    yield from _unusable_paths(settings)


def _misfits(recipe: TrainingRecipe, *, where: str) -> Iterator[str]:
    depth, width = base_size(recipe.base_model)
    if recipe.layers is not None and depth is not None and recipe.layers > depth:
        yield f"layers in {where}: expected 1 to {depth}, the layers of {recipe.base_model}, got {recipe.layers}"
    learning, kept = recipe.warm_layers, recipe.layers or depth
    if learning is not None and kept is not None and learning > kept:
        yield f"warm_layers in {where}: expected 0 to {kept}, the layers of the model, got {learning}"
    if recipe.hidden is not None and width is not None and recipe.hidden > width:
        yield f"hidden in {where}: expected up to {width}, the width of {recipe.base_model}, got {recipe.hidden}"


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
        folder = find_base(name) if name == PACKAGED else Path(name).expanduser()
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        return int(config["num_hidden_layers"]), int(config["hidden_size"])
    except (NotFoundError, OSError, ValueError, KeyError, TypeError):
        return None, None  # the training that reads the base says what is wrong with it
