"""The MLflow model: what is logged, and that it answers where this repository is not."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from mlflow.tracking import MlflowClient

from absa.adapters.mlflow_client import TRAVELLING_CODE, LoggedPackage, log_package
from absa.errors import IntegrityError
from absa.inference.engine import Engine
from absa.task import TaskSpec
from tests.toy_package import build_toy_package

ROWS = {"text": ["the app is great", "terrible service", "it is a tool"], "aspect": ["app", "service", "tool"]}

SCORE_ELSEWHERE = """
import json, sys
site = sys.argv[1]
sys.path.append(site)                       # as a folder, so that the .pth of an editable install is not read
try:
    import absa
except ModuleNotFoundError:
    pass
else:
    raise SystemExit("this repository is importable, so the test would prove nothing")
import mlflow, pandas
mlflow.set_tracking_uri(sys.argv[2])
answers = mlflow.pyfunc.load_model("models:/absa@champion").predict(pandas.DataFrame(json.loads(sys.argv[3])))
import absa
print(json.dumps({"answers": answers.to_dict(orient="list"), "code": absa.__file__}))
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_toy_package(tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


@pytest.fixture(scope="module")
def logged(package: Path, store: str) -> Iterator[LoggedPackage]:
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(store)
    artifacts = Path(store.removeprefix("sqlite:///")).parent / "artifacts"
    experiment = mlflow.create_experiment("pyfunc", artifact_location=artifacts.as_uri())
    with mlflow.start_run(experiment_id=experiment):
        found = log_package(package, registered_model_name="absa")
    MlflowClient().set_registered_model_alias("absa", "champion", found.version)
    yield found
    mlflow.set_tracking_uri(before)


@pytest.mark.slow
def test_registered_model_answers_without_this_repository(
    logged: LoggedPackage, package: Path, store: str, tmp_path: Path
) -> None:
    """Stands for an environment made from the version's own requirements.

    The interpreter is isolated (-I), sees no site directory of its own (-S), starts in an empty folder and gets the
    installed libraries as a plain folder, in which the editable install of this project does not work. It does not
    prove that the pinned requirements install, which takes minutes and a package index.
    """
    site = Path(mlflow.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", SCORE_ELSEWHERE, str(site), store, json.dumps(ROWS)],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.strip().splitlines()[-1])
    expected = Engine.load(package).score(list(zip(ROWS["text"], ROWS["aspect"], strict=True)))
    assert found["answers"]["label"] == expected.argmax(axis=1).tolist()
    assert found["answers"]["sentiment"] == ["positive", "negative", "neutral"]
    assert found["answers"]["scores"] == [pytest.approx(row, abs=1e-5) for row in expected.tolist()]
    assert not Path(found["code"]).is_relative_to(Path.cwd())


def test_model_carries_only_code_that_scores(logged: LoggedPackage) -> None:
    folder = Path(mlflow.artifacts.download_artifacts(logged.model_uri))
    assert {path.name for path in (folder / "code" / "absa").iterdir()} - {"__pycache__"} == set(TRAVELLING_CODE)
    assert not list(folder.rglob("*.pkl"))


def test_model_artifacts_are_the_package_files(logged: LoggedPackage, package: Path) -> None:
    folder = Path(mlflow.artifacts.download_artifacts(logged.model_uri)) / "artifacts"
    assert {path.name for path in folder.iterdir()} == {path.name for path in package.iterdir()}
    assert (folder / "model.onnx").read_bytes() == (package / "model.onnx").read_bytes()


def test_version_has_tags_card_signature_and_requirements(logged: LoggedPackage, package: Path) -> None:
    version = MlflowClient().get_model_version("absa", logged.version)
    assert version.tags["digest"] == Engine.load(package).digest
    assert version.description.startswith("# Toy")
    model = mlflow.models.get_model_info(logged.model_uri)
    assert [each.name for each in model.signature.inputs] == ["text", "aspect"]
    assert [each.name for each in model.signature.outputs] == ["label", "name", "sentiment", "scores", "truncated"]
    requirements = mlflow.pyfunc.get_model_dependencies(logged.model_uri)
    pinned = [line for line in Path(requirements).read_text().splitlines() if line.strip()]
    assert all("==" in line for line in pinned)
    assert not any(line.startswith(("torch", "transformers")) for line in pinned)


def test_statement_of_the_lake_page_answers(
    logged: LoggedPackage, store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).parents[3] / "docs/integrations/reading_the_lake.md").read_text(encoding="utf-8")
    (statement,) = [each for each in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "pyfunc" in each]
    assert statement.count("http://127.0.0.1:5000") == 1
    exec(statement.replace("http://127.0.0.1:5000", store), {})
    lines = capsys.readouterr().out.splitlines()
    assert "positive" in lines[1]
    assert "negative" in lines[2]


def test_answer_keeps_index_of_the_frame(logged: LoggedPackage) -> None:
    frame = pd.DataFrame(ROWS, index=[7, 3, 5])
    assert list(mlflow.pyfunc.load_model(logged.model_uri).predict(frame).index) == [7, 3, 5]


def test_mlflow_answer_of_a_cut_text_says_truncated(logged: LoggedPackage) -> None:
    texts = [f"{'it is the app and ' * 60}. the waiter is {word}" for word in ("great", "terrible")]
    frame = pd.DataFrame({"text": [*texts, "the waiter is great"], "aspect": "waiter"})
    answers = mlflow.pyfunc.load_model(logged.model_uri).predict(frame)
    assert answers["truncated"].tolist() == [True, True, False]
    assert answers["label"].tolist() == [2, 0, 2]


@pytest.mark.parametrize(("form", "phrase"), [("text", None), ("text+topic", "topic")])
def test_mlflow_model_takes_columns_of_the_task(
    form: str,
    phrase: str | None,
    logged: LoggedPackage,
    tmp_path: Path,  # logged: sets the tracking server
) -> None:
    task = TaskSpec(name="tickets", input=form, labels=("billing", "bug"))  # type: ignore[arg-type]
    experiment = mlflow.set_experiment("pyfunc")
    with mlflow.start_run(experiment_id=experiment.experiment_id):
        found = log_package(build_toy_package(tmp_path / "package", task=task))
    model = mlflow.pyfunc.load_model(found.model_uri)
    columns = {"text": ["a bug in the app", "the billing"]} | ({phrase: ["invoice", "app"]} if phrase else {})
    assert [each.name for each in model.metadata.signature.inputs] == list(columns)
    answers = model.predict(pd.DataFrame(columns))
    assert list(answers.columns) == ["label", "name", "scores", "truncated"]
    assert answers["name"].tolist() == ["bug", "billing"]


def test_a_broken_package_is_not_logged(package: Path, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes((package / "model.onnx").read_bytes())
    with pytest.raises(IntegrityError, match=r"has no readable calibration\.json"):
        log_package(tmp_path)
