"""A teacher's process: fine-tunes within its time, answers on every row, and reports what fails."""

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from absa.errors import DeadlineMissedError, PermanentError
from absa.inference.tokenization import PairTokenizer
from absa.modeling.bases import TOKENIZER
from absa.task import ABSA
from absa.training.rows.distill import ANSWERS_FILE, PAIRS_FILE, TEACHER_FILE, Answers
from absa.training.rows.shards import write_shard
from absa.training.rows.tokens import LabelledPair, tokenize
from flows.training.teaching.teachers import run_teacher
from tests.conftest import labelled_rows
from tests.tiny_encoders import save_bert

PAIRS = '{"text": "the menu is fine", "aspect": "menu", "label": 0}\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    base = save_bert(tmp_path / "base")
    rows = tokenize([LabelledPair(**row) for row in labelled_rows(60)], PairTokenizer.from_file(base / TOKENIZER, 64))
    write_shard(tmp_path / "tokens", rows, base / TOKENIZER, 64)
    (tmp_path / PAIRS_FILE).write_text(PAIRS)
    return tmp_path


def describe(folder: Path, *, seconds: float) -> float:
    now = time.time()
    settings = {"base_model": str(folder / "base"), "max_epochs": 2.0, "max_tokens": 64, "threads": 1}
    described = {
        "settings": settings, "tokens": str(folder / "tokens"), "begins_at": now, "ends_at": now + seconds,
        "task": ABSA.to_json(), "weights": None,
    }  # fmt: skip
    (folder / TEACHER_FILE).write_text(json.dumps(described))
    return now + seconds


def test_process_fine_tunes_and_answers_every_row(folder: Path) -> None:
    events: list[Any] = []
    run_teacher(folder, ends_at=describe(folder, seconds=120), environment=os.environ, on_event=events.append)
    answers = Answers.read(folder / ANSWERS_FILE)
    assert answers.labelled.shape == (60, 3)
    assert answers.pairs.shape == (1, 3)
    assert not np.isnan(answers.labelled).any()
    assert [each["name"] for each in events if each["event"] == "phase"] == ["load", "train", "answer"]
    assert (folder / "weights" / "model.safetensors").is_file()


def test_process_without_time_misses_its_deadline(folder: Path) -> None:
    describe(folder, seconds=-1)
    with pytest.raises(DeadlineMissedError, match="before the first training step"):
        run_teacher(folder, ends_at=time.time() + 120, environment=os.environ, on_event=lambda _: None)


def test_process_names_what_cannot_be_used(folder: Path) -> None:
    (folder / TEACHER_FILE).write_text("{}")
    with pytest.raises(PermanentError, match=r"a teacher failed \(exit 1\): .*teacher.json cannot be used"):
        run_teacher(folder, ends_at=time.time() + 120, environment=os.environ, on_event=lambda _: None)
