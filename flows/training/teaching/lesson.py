"""Lesson of a student: pairs without labels, and the answers of teachers on them and on the labelled rows."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from absa.records.schema import Window
from absa.training.rows.distill import ANSWERS_FILE, PAIRS_FILE, Answers
from flows.platform.services import Services
from flows.training.job_process import OnEvent
from flows.training.teaching.teachers import RunTeacher, ask_teacher, named_teachers, run_teacher

if TYPE_CHECKING:
    from absa.data.snapshot import Manifest

_FOLDER: Final = "lesson"
_MOST_PAIRS: Final = 20_000  # from each source of pairs
_MOST_ROWS: Final = 50_000  # rows of the training split whose texts are searched for other aspects
_LOG_AGE: Final = timedelta(days=30)

Unlabelled = tuple[str, str | None]


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """Answers of teachers on a snapshot's training split and on pairs without labels.

    Attributes:
        manifest: manifest of the snapshot.
        answers: mean of the teachers' answers.
        pairs: JSON lines of the pairs without labels.
        facts: facts for the tracking run.
    """

    manifest: "Manifest"
    answers: Answers
    pairs: bytes
    facts: dict[str, Any]

    def write(self, job: Path) -> Path:
        """Write the lesson into a job's folder; return the lesson's folder."""
        folder = job / _FOLDER
        folder.mkdir(exist_ok=True)
        self.answers.write(folder / ANSWERS_FILE)
        (folder / PAIRS_FILE).write_bytes(self.pairs)
        return folder


def make_lesson(
    services: Services,
    manifest: "Manifest",
    *,
    teachers: Sequence[str],
    budget_s: float,
    files: Sequence[str] = (),
    max_tokens: int,
    on_event: OnEvent,
    run: RunTeacher = run_teacher,
) -> Lesson:
    """Get the teachers' answers on a snapshot's training split and on pairs without labels.

    A teacher that was fine-tuned before and is not stale is not trained again; answers on equal rows are used again.

    Args:
        services: ports.
        manifest: manifest of the snapshot.
        teachers: folders or hub names; a name that is given twice is fine-tuned with two seeds.
        budget_s: seconds of each teacher.
        files: files of pairs without labels, in addition to the files of the settings.
        max_tokens: most tokens of a row.
        on_event: receives the events of the teachers' processes.
        run: runs a teacher's process.

    Raises:
        DeadlineMissedError: the budget of a teacher is too short for a first answer.
        InvalidDataError: a file cannot be read.
        NotFoundError: a teacher is neither a folder nor reachable on the hub.
        PermanentError: a teacher failed.
    """
    named = named_teachers(teachers, task=manifest.task.to_json(), budget_s=budget_s)
    pairs = unlabelled_pairs(services, manifest, files)
    lines = "".join(json.dumps({"text": text, "aspect": aspect, "label": 0}) + "\n" for text, aspect in pairs).encode()
    rows = hashlib.sha256(manifest.digest.encode() + lines).hexdigest()
    began, found, reused = services.clock(), [], 0
    for number, teacher in enumerate(named, 1):
        on_event({"event": "phase", "name": "teach"})
        answers, kept = ask_teacher(
            services, teacher, manifest, pairs=lines, rows=rows, max_tokens=max_tokens, budget_s=budget_s,
            on_event=on_event, run=run,
        )  # fmt: skip
        found.append(answers)
        reused += kept
        how = "was kept from an earlier run" if kept else "was fine-tuned"
        on_event({"event": "note", "sentence": f"teacher {number} of {len(named)}, {teacher.name}, {how}"})
    together = Answers.mean(found)
    facts = {
        "teachers": ", ".join(Path(each.name).name for each in named),
        "teachers_reused": reused,
        "teachers_s": round((services.clock() - began).total_seconds(), 1),
        "taught_rows": int((~np.isnan(together.labelled).any(axis=1)).sum()),
        "taught_pairs": int((~np.isnan(together.pairs).any(axis=1)).sum()),
        "lesson": hashlib.sha256("".join((rows, *(each.kind for each in named))).encode()).hexdigest()[:16],
    }
    return Lesson(manifest=manifest, answers=together, pairs=lines, facts=facts)


def unlabelled_pairs(services: Services, manifest: "Manifest", files: Sequence[str]) -> list[Unlabelled]:
    """Return pairs without labels: of files, of the prediction log if the settings allow it, and unasked pairs.

    An unasked pair is a text of the other pairs with another aspect. Texts of the validation and test splits are left
    out in all sources, and so are pairs that a labelled row has.
    """
    from absa.data.normalise import near_duplicate_key, side
    from absa.data.read import read_examples
    from absa.data.snapshot import sample_side, tested_keys
    from absa.data.unasked import unasked_pairs

    policy, task = services.settings.training, manifest.task
    train = sample_side(services.lake, manifest.digest, "train", _MOST_ROWS).select("text", "aspect")
    asked = set(train.iter_rows())
    given: dict[Unlabelled, None] = {}
    for file in (*files, *([policy.unlabelled] if policy.unlabelled else [])):
        examples, _ = read_examples(file, require_label=False, mapping=services.settings.data)
        given |= dict.fromkeys(examples.select("text", "aspect").head(_MOST_PAIRS).iter_rows())
    if policy.learn_from_predictions:
        given |= dict.fromkeys(_logged(services, phrase=task.phrase is not None))
    tested = set() if manifest.recent is None else set(tested_keys(services.lake, manifest.digest))
    pairs = [
        pair
        for pair in given
        if pair not in asked and side(pair[0]) == "train" and near_duplicate_key(pair[0]) not in tested
    ]
    if task.phrase_in_text:
        everything = [(text, aspect) for text, aspect in (*asked, *pairs) if aspect is not None]
        aspects = {aspect for _, aspect in asked if aspect is not None}
        pairs += unasked_pairs((text for text, _ in everything), aspects, everything, most=_MOST_PAIRS)
    return pairs


def _logged(services: Services, *, phrase: bool) -> list[Unlabelled]:
    """Return inputs of the prediction log, without redacted ones."""
    import polars as pl

    from absa.records.windows import SERVED, load_window

    now = services.clock()
    readable = SERVED & pl.col("text").is_not_null()
    window = Window(start=now - _LOG_AGE, end=now)
    rows = load_window(
        services.lake, window, keep=readable & pl.col("aspect").is_not_null() if phrase else readable,
        max_rows=_MOST_PAIRS,
    ).rows  # fmt: skip
    asked = pl.col("aspect") if phrase else pl.lit(None, pl.String).alias("aspect")
    return list(rows.select("text", asked).iter_rows())
