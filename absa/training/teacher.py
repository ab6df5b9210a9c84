"""Teacher as a process: `python -m absa.training.teacher FOLDER` fine-tunes an encoder and scores rows with it.

FOLDER has teacher.json and pairs.jsonl (pairs without labels; may be empty). The process adds checkpoints/, then
weights/ (unless teacher.json names weights of an earlier run), and answers.npz last. It prints one JSON event per line.
Exit codes: 0 answers.npz is complete, 1 failed, 3 the time ended before the first answer.
"""

import json
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from absa.errors import DeadlineMissedError, EvergreenError, InvalidDataError
from absa.inference.tokenization import PairTokenizer
from absa.modeling.bases import TOKENIZER, find_base, load_base, save_weights
from absa.modeling.head import Classifier
from absa.task import TaskSpec
from absa.training.checkpoints import Checkpoints
from absa.training.deadline import Deadline
from absa.training.device import pick_device
from absa.training.rows.compose import Composer
from absa.training.rows.distill import ANSWERS_FILE, PAIRS_FILE, TEACHER_FILE, Answers
from absa.training.rows.scoring import score_as_teacher
from absa.training.rows.shards import Corpus, ShardCorpus, open_shards
from absa.training.rows.tokens import Targets, TokenRows, read_pairs, tokenize
from absa.training.trainer import Trainer
from absa.training.training_settings import TrainingSettings

_WEIGHTS: Final = "weights"
_EXIT_NO_TIME: Final = 3
_CHECKPOINTS: Final = "checkpoints"
_TRAINING_SHARE: Final = 0.7  # largest share of a teacher's time; the rest is for scoring
_SCORED_AT_ONCE: Final = 1_024

Tell = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, kw_only=True)
class TeacherJob:
    """Content of teacher.json.

    Attributes:
        settings: settings of the fine-tuning, as JSON; `base_model` is the encoder.
        tokens: folder of the train side's token shards, made with the encoder's tokenizer.
        begins_at: start of the teacher's time, seconds since the epoch.
        ends_at: end of the teacher's time, seconds since the epoch.
        task: task of the rows.
        weights: folder with weights of an earlier fine-tuning; None: fine-tune the encoder.
    """

    settings: dict[str, Any]
    tokens: str
    begins_at: float
    ends_at: float
    task: TaskSpec
    weights: str | None = None

    @classmethod
    def read(cls, folder: Path) -> "TeacherJob":
        """Read teacher.json.

        Raises:
            InvalidDataError: the file is missing or has another form.
        """
        try:
            values = json.loads((folder / TEACHER_FILE).read_text(encoding="utf-8"))
            return cls(**values | {"task": TaskSpec.from_json(values["task"])})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InvalidDataError(f"{folder / TEACHER_FILE} cannot be used: {type(error).__name__} {error}") from error


def teach(folder: Path, tell: Tell = lambda _: None) -> None:
    """Fine-tune a teacher, unless its weights exist, and write its answers.

    Raises:
        DeadlineMissedError: the time ended before the first step or the first answer.
        EvergreenError: settings, rows or encoder cannot be used.
    """
    job = TeacherJob.read(folder)
    settings = TrainingSettings.from_json(job.settings)
    tell({"event": "phase", "name": "load"})
    base = find_base(job.weights or settings.base_model)
    model, has_head = load_base(
        base, task=job.task, dropout=settings.dropout, max_tokens=settings.max_tokens, seed=settings.seed
    )
    tokenizer = PairTokenizer.from_file(base / TOKENIZER, settings.max_tokens, task=job.task)
    limit = Deadline(job.ends_at)
    rows = open_shards(Path(job.tokens), base / TOKENIZER, settings.max_tokens, left_s=limit.remaining_s)
    if job.weights is None:
        model = _fine_tuned(folder, job, model, rows, settings, Composer.of(tokenizer, settings, job.task), tell)
        save_weights(model, (base / TOKENIZER).read_text(encoding="utf-8"), folder / _WEIGHTS)
    elif not has_head:
        raise InvalidDataError(f"{job.weights} holds no fine-tuned teacher of the task {job.task.name}")
    tell({"event": "phase", "name": "answer"})
    model.to(pick_device(settings.device))
    pairs = None
    if (folder / PAIRS_FILE).stat().st_size:
        pairs = tokenize(read_pairs(folder / PAIRS_FILE, job.task), tokenizer)
    answers = answers_of(model, rows, pairs, limit)
    if np.isnan(answers.labelled).all():
        raise DeadlineMissedError("the teacher's time ended before its first answer")
    answers.write(folder / ANSWERS_FILE)


def _fine_tuned(
    folder: Path,
    job: TeacherJob,
    model: Classifier,
    rows: ShardCorpus,
    settings: TrainingSettings,
    compose: Composer | None,
    tell: Tell,
) -> Classifier:
    trainer = Trainer(
        model,
        rows,
        None,
        settings,
        Deadline(job.begins_at + _TRAINING_SHARE * (job.ends_at - job.begins_at)),
        compose=compose,
        checkpoints=Checkpoints(folder / _CHECKPOINTS),
        watch=lambda progress: tell({"event": "progress", **progress.to_json()}),
    )
    tell({"event": "phase", "name": "train"})
    result = trainer.run()
    tell({"event": "trained", **asdict(result)})
    shutil.rmtree(folder / _CHECKPOINTS, ignore_errors=True)
    return trainer.averaged()


def answers_of(model: Classifier, rows: ShardCorpus, pairs: TokenRows | None, limit: Deadline) -> Answers:
    """Return a model's scores of labelled rows, then of pairs without labels; NaN for rows after the time limit."""
    nothing = np.zeros((0, model.task.n_labels), np.float32)
    return Answers(_scores(model, rows, limit), nothing if pairs is None else _scores(model, pairs, limit))


def _scores(model: Classifier, rows: Corpus, limit: Deadline) -> Targets:
    scores = np.full((len(rows), model.task.n_labels), np.nan, np.float32)
    for start in range(0, len(rows), _SCORED_AT_ONCE):
        if limit.remaining_s() <= 0:
            break
        index = np.arange(start, min(len(rows), start + _SCORED_AT_ONCE))
        scores[index] = score_as_teacher(model, rows.take(index))
    return scores


def main(arguments: list[str] | None = None) -> int:
    """Run the teacher in the folder that the argument names; return the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m absa.training.teacher FOLDER\n")
        return 1

    def tell(event: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(event) + "\n")
        sys.stdout.flush()

    started = time.time()
    try:
        teach(Path(arguments[0]), tell)
    except EvergreenError as error:
        tell({"event": "failed", "sentence": str(error)})
        return _EXIT_NO_TIME if isinstance(error, DeadlineMissedError) else 1
    tell({"event": "taught", "seconds": round(time.time() - started, 1)})
    return 0


if __name__ == "__main__":
    sys.exit(main())
