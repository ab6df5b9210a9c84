"""Bases of `evergreen pretrain` and `--encoder`, in HOME/bases, each under the digest of its input."""

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

from absa.errors import NotFoundError
from flows.platform.services import Services

_BASES: Final = "bases"
_SHORTEST_PREFIX: Final = 4
_TELL_EVERY_S: Final = 10.0


def make_base(
    services: Services,
    path: str,
    *,
    epochs: float,
    budget_s: float | None,
    on_progress: Callable[[str], None] = lambda _: None,
) -> tuple[Path, bool]:
    """Make a base from labelled files, or find the base that equal files gave before.

    Returns:
        Folder of the base, named by its digest, and True if the base was made now.

    Raises:
        InvalidDataError: a file cannot be used.
        NotFoundError: the base model to start from does not exist.
    """
    import polars as pl

    from absa.data.files.source_files import find_sources
    from absa.data.read import read_examples
    from absa.modeling.folders import pin_base
    from absa.training.pretrain import pretrain
    from absa.training.progress import Progress
    from absa.training.rows.tokens import LabelledPair
    from absa.training.training_settings import TrainingSettings

    mapping = services.settings.data
    found_examples = (read_examples(source.uri, mapping=mapping)[0] for source in find_sources(path))
    examples = pl.concat([each.select("text", "aspect", "label") for each in found_examples]).unique()
    rows = [LabelledPair(text, aspect, label) for text, aspect, label in examples.iter_rows()]
    counts = Counter(row.label for row in rows)
    named = (f"{counts[number]:,} {label}" for number, label in enumerate(mapping.task.labels))
    on_progress(f"{len(rows):,} rows: {', '.join(named)}")
    recipe = services.settings.training
    wanted = {
        "base_model": pin_base(recipe.base_model),
        "layers": recipe.layers,
        "hidden": recipe.hidden,
        "learning_rate": recipe.learning_rate,
        "batch_tokens": recipe.batch_tokens,
        "max_epochs": epochs,
    }
    began = time.monotonic()
    told = [began]

    def watch(progress: Progress) -> None:
        if time.monotonic() - told[0] > _TELL_EVERY_S:
            told[0] = time.monotonic()
            left = f", {budget_s - (told[0] - began):.0f} s left" if budget_s is not None else ""
            on_progress(f"  pass {progress.epoch:.2f} of {epochs:g}, loss {progress.loss:.3f}{left}")

    found: list[Path] = []
    folder = pretrain(
        rows,
        TrainingSettings.from_json({name: value for name, value in wanted.items() if value is not None}),
        services.home.folder(_BASES),
        task=mapping.task,
        budget_s=budget_s,
        watch=watch,
        found=found.append,
    )
    return folder, not found


def named_base(services: Services, name: str) -> str:
    """Return `base_model` for a base's digest or the start of one, a folder, or a name on a hub.

    A name on a hub gets the commit that the name has now.

    Raises:
        NotFoundError: `name` is none of these.
    """
    from absa.modeling.folders import find_base, pin_base
    from absa.training.pretrain import bases_in

    bases = bases_in(services.home.folder(_BASES))
    meant = [folder for digest, folder in bases.items() if len(name) >= _SHORTEST_PREFIX and digest.startswith(name)]
    if len(meant) == 1:
        return str(meant[0])
    try:
        name = pin_base(name)
        folder = find_base(name)
    except NotFoundError as error:
        known = ", ".join(bases) or "none yet: `evergreen pretrain FOLDER` makes one"
        raise NotFoundError(f"{error}; bases made here: {known}") from None
    return str(folder.absolute()) if Path(name).is_dir() else name
