"""`evergreen train` and `retrain` where no server runs and there is nothing to learn from."""

import os
from pathlib import Path

import pytest

from tests.command_line import evergreen


@pytest.mark.parametrize("words", [("train",), ("retrain", "--reason", "labels")])
def test_training_without_data_opens_no_run(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in os.environ if name.startswith(("EVERGREEN_", "MLFLOW_", "PREFECT_"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path))
    assert evergreen(*words) == 1
    assert (
        "evergreen: a first training needs data: name a file, or run `evergreen init FILE`" in capsys.readouterr().err
    )
    assert not (tmp_path / "mlflow").exists()
