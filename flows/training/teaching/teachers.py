"""Teachers of a snapshot: fine-tuned encoders, kept in the lake by digest and reused until they are stale."""

import hashlib
import json
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from absa.errors import DeadlineMissedError, PermanentError
from absa.job import EXIT_DEADLINE_MISSED
from absa.modeling.folders import CONFIG, TOKENIZER, WEIGHTS, find_base, pin_base
from absa.records.lake import Lake
from absa.records.layout import answers_key, teacher_folder, teachers_prefix
from absa.records.schema import iso, parse_iso
from absa.training.rows.distill import ANSWERS_FILE, PAIRS_FILE, TEACHER_FILE, Answers
from flows.platform.services import Services
from flows.training.job_process import OnEvent, relay_child
from flows.training.token_process import shards_of

if TYPE_CHECKING:
    from absa.data.snapshot import Manifest

STALE_AFTER: Final = timedelta(days=30)
STALE_GROWTH: Final = 1.25  # growth of the number of rows, relative to a teacher's training, that makes it stale
_FORMAT: Final = 1  # increase it if equal encoders and settings no longer give the same teacher
_WIDE: Final = 768  # encoders of this width or more need a lower learning rate
_WIDE_RATE: Final = 3e-5
_KILLED_AFTER_SHARE: Final = 0.25  # share of its time by which a process may be late before it is killed

RunTeacher = Callable[..., None]
"""Runner of a teacher's folder: `run_teacher`, or a fake with its parameters."""


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """Teacher to fine-tune, or to find among kept teachers.

    Attributes:
        name: name that the user gave, with a hub's commit.
        folder: folder of the encoder.
        settings: settings of the fine-tuning, as JSON; `base_model` is the folder.
        kind: digest of everything that the teacher depends on, except the rows.
    """

    name: str
    folder: Path
    settings: Mapping[str, Any]
    kind: str


def is_stale(*, made_at: datetime, rows: int, now: datetime, rows_now: int) -> bool:
    """Return True if a teacher is too old, or was trained on less than four fifths of the present rows. Pure."""
    return now - made_at > STALE_AFTER or rows_now > STALE_GROWTH * rows


def named_teachers(names: Sequence[str], *, task: Mapping[str, Any], budget_s: float) -> list[Teacher]:
    """Return the teachers of some names; a repeated name gets another seed.

    Raises:
        NotFoundError: a name is neither a folder nor reachable on the hub.
    """
    seeds: Counter[str] = Counter()
    found = []
    for name in names:
        pinned = pin_base(name)
        folder = find_base(pinned)
        width = json.loads((folder / CONFIG).read_text(encoding="utf-8")).get("hidden_size") or 0
        learned = {"max_epochs": 3.0, "dropout": 0.1, "contrast_share": 0.4, "seed": seeds[pinned]}
        if width >= _WIDE:
            learned["learning_rate"] = _WIDE_RATE
        seeds[pinned] += 1
        with (folder / WEIGHTS).open("rb") as file:
            weights = hashlib.file_digest(file, "sha256").hexdigest()
        facts = json.dumps([_FORMAT, weights, learned, task, budget_s], sort_keys=True)
        kind = hashlib.sha256(facts.encode()).hexdigest()
        found.append(Teacher(name=pinned, folder=folder, settings={**learned, "base_model": str(folder)}, kind=kind))
    return found


def ask_teacher(
    services: Services,
    teacher: Teacher,
    manifest: "Manifest",
    *,
    pairs: bytes,
    rows: str,
    max_tokens: int,
    budget_s: float,
    on_event: OnEvent,
    run: RunTeacher,
) -> tuple[Answers, bool]:
    """Return a teacher's answers, and True if the teacher was kept from an earlier run.

    Args:
        services: ports.
        teacher: teacher to fine-tune or find.
        manifest: manifest of the snapshot; the teacher answers on its training split.
        pairs: pairs without labels, as JSON lines.
        rows: digest of training split and pairs.
        max_tokens: most tokens of a row.
        budget_s: seconds that the teacher may take.
        on_event: receives the events of the teacher's process.
        run: runs the teacher's process.

    Raises:
        DeadlineMissedError: the budget is too short for a first answer.
        PermanentError: the process failed.
    """
    lake, train_rows = services.lake, manifest.side_rows("train")
    kept = _reusable(lake, teacher.kind, now=services.clock(), rows=train_rows)
    home = kept or teacher_folder(teacher.kind, manifest.digest)
    folder = services.home.folder("teachers", teacher.kind[:16], manifest.digest[:16])
    file = folder / ANSWERS_FILE
    if kept is not None and lake.exists(answers_key(home, rows)):
        file.write_bytes(lake.read(answers_key(home, rows)))
        answers = Answers.read(file)
        shutil.rmtree(folder)
        return answers, True
    file.unlink(missing_ok=True)
    (folder / PAIRS_FILE).write_bytes(pairs)
    begins_at = time.time()
    with shards_of(
        lake,
        manifest.digest,
        teacher.folder / TOKENIZER,
        max_tokens,
        cache=services.home.root,
        environment=services.environment,
    ) as shards:
        described = {
            "settings": {**teacher.settings, "max_tokens": max_tokens},
            "tokens": str(shards.folder),
            "begins_at": begins_at,
            "ends_at": begins_at + budget_s,
            "task": manifest.task.to_json(),
            "weights": None if kept is None else str(_weights_here(lake, kept, folder)),
        }
        (folder / TEACHER_FILE).write_text(json.dumps(described, indent=1))
        try:
            run(folder, ends_at=begins_at + budget_s, environment=services.environment, on_event=on_event)
        except DeadlineMissedError as error:
            raise DeadlineMissedError(
                f"a budget of {budget_s:.0f} s is too short here for the teacher {teacher.name}: give a larger "
                "--teacher-budget, or name a smaller teacher"
            ) from error
    answers = Answers.read(file)
    if kept is None:
        for part in (CONFIG, WEIGHTS, TOKENIZER):
            lake.write(f"{home}weights/{part}", (folder / "weights" / part).read_bytes())
        facts = {"schema_version": 1, "name": Path(teacher.name).name, "made_at": iso(services.clock())}
        lake.write(home + TEACHER_FILE, json.dumps({**facts, "rows": train_rows, "snapshot": manifest.digest}).encode())
    lake.write(answers_key(home, rows), file.read_bytes())
    shutil.rmtree(folder)  # its pairs are customers' texts
    return answers, kept is not None


def _reusable(lake: Lake, kind: str, *, now: datetime, rows: int) -> str | None:
    """Return the folder of the newest teacher of a kind that is not stale; None if there is none."""
    found: list[tuple[datetime, str]] = []
    for key in lake.list(teachers_prefix(kind)):
        if key.endswith(f"/{TEACHER_FILE}"):
            facts = json.loads(lake.read(key))
            made_at = parse_iso(facts["made_at"])
            if not is_stale(made_at=made_at, rows=int(facts["rows"]), now=now, rows_now=rows):
                found.append((made_at, key.removesuffix(TEACHER_FILE)))
    return max(found)[1] if found else None


def _weights_here(lake: Lake, teacher: str, folder: Path) -> Path:
    """Return a teacher's weights on local disk."""
    into = folder / "weights"
    into.mkdir(exist_ok=True)
    for part in (CONFIG, WEIGHTS, TOKENIZER):
        (into / part).write_bytes(lake.read(f"{teacher}weights/{part}"))
    return into


def run_teacher(folder: Path, *, ends_at: float, environment: Mapping[str, str], on_event: OnEvent) -> None:
    """Run `python -m absa.training.teacher FOLDER` and relay its events.

    Raises:
        DeadlineMissedError: the time ended before a first answer.
        PermanentError: the process failed; the message names its log.
    """
    log, now = folder / "teacher.log", time.time()
    kills_at = now + (1.0 + _KILLED_AFTER_SHARE) * (ends_at - now)
    code, why = relay_child(
        [sys.executable, "-u", "-m", "absa.training.teacher", str(folder)],
        log=log, environment=environment, on_event=on_event, is_over=lambda: time.time() >= kills_at,
    )  # fmt: skip
    if code == EXIT_DEADLINE_MISSED or code < 0:
        raise DeadlineMissedError(why or "the time ended before the teacher's first answer")
    if code != 0:
        raise PermanentError(f"a teacher failed (exit {code}): {why or f'see {log}'}")
