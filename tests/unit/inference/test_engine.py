"""The engine: calibrated probabilities in the order of the rows, whoever shares their batch."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from absa.errors import IntegrityError
from absa.inference.engine import Engine, softmax
from absa.task import TaskSpec
from tests.toy_package import WORDS, build_toy_package

PAIRS = st.lists(
    st.tuples(
        st.lists(st.sampled_from(sorted(WORDS)), min_size=1, max_size=30).map(" ".join), st.sampled_from(["app", "it"])
    ),
    min_size=1,
    max_size=40,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_toy_package(tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="module")
def engine(folder: Path) -> Engine:
    return Engine.load(folder)


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pairs=PAIRS, budget=st.integers(min_value=8, max_value=1024))
def test_row_gets_same_scores_as_alone(pairs: list[tuple[str, str]], budget: int, engine: Engine) -> None:
    together = engine.score(pairs, token_budget=budget)
    alone = np.concatenate([engine.score([pair]) for pair in pairs])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_scores_are_probabilities(engine: Engine) -> None:
    scores = engine.score([("the app is great", "app"), ("terrible service", "service")])
    assert scores.dtype == np.float32
    assert scores.shape == (2, 3)
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-6)
    assert scores.argmax(axis=1).tolist() == [2, 0]


FORMS = ("text", "text+aspect", "text+topic")
NAMES = ("billing", "bug", "praise", "refund", "delivery", "account")


@pytest.mark.parametrize("labels", [2, 3, 6])
@pytest.mark.parametrize("form", FORMS)
def test_engine_scores_each_form_and_label_count(form: str, labels: int, tmp_path: Path) -> None:
    task = TaskSpec(name="tickets", input=form, labels=NAMES[:labels])  # type: ignore[arg-type]
    engine = Engine.load(build_toy_package(tmp_path, task=task))
    phrase = None if form == "text" else "app"
    scores = engine.score([(f"the app and {name}", phrase) for name in task.labels])
    assert (engine.task, scores.shape, scores.argmax(axis=1).tolist()) == (task, (labels, labels), [*range(labels)])
    assert engine.warm_up() == 3


def test_graph_with_other_label_count_is_refused(tmp_path: Path) -> None:
    folder = build_toy_package(tmp_path, task=TaskSpec(name="tickets", input="text", labels=NAMES[:3]))
    wider = TaskSpec(name="tickets", input="text", labels=NAMES[:4])
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "task": wider.to_json(), "labels": list(wider.labels)}))
    with pytest.raises(IntegrityError, match="gives 3 scores, expected 4"):
        Engine.load(folder)


def test_no_rows_give_no_scores(engine: Engine) -> None:
    assert engine.score([]).shape == (0, 3)


def test_higher_temperature_lowers_confidence_and_keeps_labels(folder: Path, tmp_path: Path) -> None:
    hot = build_toy_package(tmp_path / "hot")
    (hot / "calibration.json").write_text(json.dumps({"temperature": 5.0}))
    pairs = [("the app is great", "app"), ("terrible slow service", "service")]
    sure, unsure = Engine.load(folder).score(pairs), Engine.load(hot).score(pairs)
    assert (unsure.max(axis=1) < sure.max(axis=1)).all()
    assert (unsure.argmax(axis=1) == sure.argmax(axis=1)).all()


def test_softmax_survives_large_logits() -> None:
    scores = softmax(np.array([[1e4, 0, -1e4], [0, 0, 0]], dtype=np.float32))
    np.testing.assert_allclose(scores, [[1, 0, 0], [1 / 3, 1 / 3, 1 / 3]], atol=1e-6)


def test_warm_up_answers_as_packaged(engine: Engine) -> None:
    assert engine.warm_up() == 3


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (None, "holds no warm-up rows"),
        ("", "holds no warm-up rows"),
        ("not json", "holds no warm-up rows"),
        ('{"text": "the app is great", "aspect": "app", "scores": [0.9, 0.05, 0.05]}', "row 1: a score differs"),
        ('{"text": "the app is great", "aspect": "app", "scores": [NaN, 0.05, 0.05]}', "row 1: a score differs"),
    ],
)
def test_warm_up_refuses_another_answer(lines: str | None, sentence: str, tmp_path: Path) -> None:
    folder = build_toy_package(tmp_path)
    (folder / "warmup.jsonl").unlink()
    if lines is not None:
        (folder / "warmup.jsonl").write_text(lines)
    with pytest.raises(IntegrityError, match=sentence):
        Engine.load(folder).warm_up()


def test_a_file_that_is_no_model_is_named(tmp_path: Path) -> None:
    folder = build_toy_package(tmp_path)
    (folder / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(IntegrityError, match=r"model\.onnx cannot be loaded"):
        Engine.load(folder)
