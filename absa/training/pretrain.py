"""Pretraining of a base: the packaged encoder is trained on labelled rows of other domains and kept by digest.

Such rows teach what an aspect is and how opinions are expressed, so the user's rows need to teach only the special
features of the user's domain (intermediate training: Phang et al. 2018, arXiv:1811.01088).
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from absa.errors import InvalidDataError
from absa.inference.tokenization import PairTokenizer
from absa.modeling.bases import CONFIG, TOKENIZER, WEIGHTS, find_base, load_base, save_weights
from absa.records.files import write_whole
from absa.task import ABSA, TaskSpec
from absa.training.checkpoints import Checkpoints
from absa.training.deadline import Deadline
from absa.training.progress import Watcher
from absa.training.rows.compose import Composer
from absa.training.rows.tokens import LabelledPair, tokenize
from absa.training.trainer import Trainer
from absa.training.training_settings import TrainingSettings

FACTS_FILE: Final = "base.json"
_CHECKPOINTS_FOLDER: Final = "checkpoints"
_NO_DEADLINE_S: Final = 30 * 86_400.0
_FORMAT: Final = 2  # raised if equal rows and settings no longer give the same base
_NOT_IN_DIGEST: Final = ("checkpoint_every_s", "threads", "device", "precision", "compiled")


def base_digest(
    rows: Iterable[LabelledPair],
    settings: TrainingSettings,
    start: Path,
    budget_s: float | None = None,
    task: TaskSpec = ABSA,
) -> str:
    """Return the key of a base: a digest of rows (in any order), settings, budget, task and first weights."""
    total = 0
    for row in rows:
        whole = json.dumps([row.text, row.aspect, row.label]).encode()
        total = (total + int.from_bytes(hashlib.sha256(whole).digest(), "big")) % 2**256
    learned = {name: value for name, value in settings.to_json().items() if name not in _NOT_IN_DIGEST}
    learned["base_model"] = None  # the digest has its weights, not its name
    with (start / WEIGHTS).open("rb") as file:
        weights = hashlib.file_digest(file, "sha256").hexdigest()
    facts: list[Any] = [_FORMAT, f"{total:064x}", learned, weights, budget_s]
    told = json.dumps(facts if task.is_default else [*facts, task.to_json()], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()


def pretrain(
    rows: Sequence[LabelledPair],
    settings: TrainingSettings,
    bases: Path,
    *,
    task: TaskSpec = ABSA,
    budget_s: float | None = None,
    watch: Watcher | None = None,
    found: Callable[[Path], None] = lambda _: None,
) -> Path:
    """Train a base, or find a base that was made from equal rows and settings.

    A run that was stopped resumes from its checkpoint.

    Args:
        rows: labelled pairs; their order does not matter.
        settings: settings of the training, which ends after `max_epochs`.
        bases: folder of all bases, with a folder per digest.
        task: task of the rows.
        budget_s: seconds after which the training ends, even before `max_epochs`.
        watch: receives the progress.
        found: receives the folder if the base exists already.

    Returns:
        The folder, which `base_model` can name. It has config.json, model.safetensors, tokenizer.json and base.json.

    Raises:
        InvalidDataError: there are no rows.
    """
    if not rows:
        raise InvalidDataError("a base needs labelled rows: expected at least one, got none")
    start = find_base(settings.base_model)
    digest = base_digest(rows, settings, start, budget_s, task)
    folder = bases / digest[:16]
    if (folder / FACTS_FILE).is_file():
        found(folder)
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = PairTokenizer.from_file(start / TOKENIZER, settings.max_tokens, task=task)
    model, has_head = load_base(
        start, task=task, layers=settings.layers, hidden=settings.hidden, dropout=settings.dropout,
        max_tokens=settings.max_tokens, seed=settings.seed,
    )  # fmt: skip
    ordered = sorted(rows, key=lambda row: (row.text, row.aspect or "", row.label))
    trainer = Trainer(
        model,
        tokenize(ordered, tokenizer),
        None,
        settings,
        Deadline.after(_NO_DEADLINE_S if budget_s is None else budget_s),
        new_head=not has_head,
        compose=Composer.of(tokenizer, settings, task),
        checkpoints=Checkpoints(folder / _CHECKPOINTS_FOLDER),
        watch=watch,
    )
    result = trainer.run()
    save_weights(trainer.averaged(), (start / TOKENIZER).read_text(encoding="utf-8"), folder)
    facts: dict[str, Any] = {
        "schema_version": 1,
        "digest": digest,
        "rows": len(rows),
        "settings": settings.to_json() | {"base_model": Path(settings.base_model).name},
        "training": asdict(result),
    }
    write_whole(
        folder / FACTS_FILE, json.dumps(facts, indent=2) + "\n"
    )  # written last: a folder without this file is not finished
    for file in (folder / _CHECKPOINTS_FOLDER).glob("*"):
        file.unlink(missing_ok=True)
    (folder / _CHECKPOINTS_FOLDER).rmdir()
    return folder


def bases_in(folder: Path) -> dict[str, Path]:
    """Return the folders of finished bases by their short digests."""
    return {path.name: path for path in sorted(folder.glob("*")) if is_base(path)}


def is_base(folder: Path) -> bool:
    """Return True if a folder holds a finished base."""
    return all((folder / name).is_file() for name in (CONFIG, WEIGHTS, TOKENIZER, FACTS_FILE))
