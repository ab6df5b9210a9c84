"""`python absa/src/evaluation.py`, as the assignment calls it: from the root, as a script."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from tests.toy_package import build_toy_package

ROOT = Path(__file__).resolve().parents[3]
ROWS = [
    ("the app is great", "app", "2"),
    ("terrible service, but a good tool", "service", "0"),
    ('it says "tool", and\nbreaks the line', "tool", "1"),
]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_toy_package(tmp_path_factory.mktemp("package"))


def write(path: Path, header: tuple[str, ...], rows: list[tuple[str, ...]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "absa/src/evaluation.py", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_labelled_file_gets_answers_and_metrics(package: Path, tmp_path: Path) -> None:
    rows = write(tmp_path / "rows.csv", ("Text", "ASPECT", "label"), ROWS)
    output = tmp_path / "results" / "test.csv"
    done = run(rows, "--model", package, "--output", output)
    assert done.returncode == 0, done.stderr
    with output.open(encoding="utf-8", newline="") as file:
        answer = list(csv.reader(file))
    assert answer[0] == ["text", "aspect", "label"]
    assert [tuple(row[:2]) for row in answer[1:]] == [row[:2] for row in ROWS]
    assert all(row[2] in {"0", "1", "2"} for row in answer[1:])
    assert answer[1][2] == "2"
    table = [line.split() for line in done.stdout.splitlines()]
    assert ["precision", "recall", "F1", "rows"] in table
    assert [line[-1] for line in table if line and line[0] in {"negative", "positive"}] == ["1", "1"]
    assert "pos/neg F1" in done.stdout


def test_evaluation_counts_the_texts_that_it_cuts(
    package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from absa.src.evaluation import main

    texts = [f"{'it is the app and ' * 60}. the waiter is {word}" for word in ("great", "terrible")]
    rows = write(tmp_path / "rows.csv", ("text", "aspect"), [(text, "waiter") for text in texts])
    assert main([str(rows), "--model", str(package), "--output", str(tmp_path / "out.csv")]) == 0
    assert "2 rows have more than 128 tokens; their texts were cut around the aspect" in capsys.readouterr().out
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        assert [row["label"] for row in csv.DictReader(file)] == ["2", "0"]


def test_file_without_labels_gets_answers_only(package: Path, tmp_path: Path) -> None:
    rows = write(tmp_path / "rows.csv", ("text", "aspect"), [row[:2] for row in ROWS])
    done = run(rows, "--model", package, "--output", tmp_path / "out.csv")
    assert done.returncode == 0, done.stderr
    assert "3 rows labelled" in done.stdout
    assert "F1" not in done.stdout


def test_an_index_without_a_name_is_no_label(tmp_path: Path) -> None:
    from absa.src.evaluation import read_input

    rows = [(str(number % 3), *row[:2]) for number, row in enumerate(ROWS)]
    read = read_input(write(tmp_path / "rows.csv", ("", "text", "aspect"), rows))
    assert read.pairs == [row[:2] for row in ROWS]
    assert read.labels is None


def test_help_works_from_the_root() -> None:
    done = run("--help")
    assert done.returncode == 0
    assert "models:/absa@champion" in done.stdout


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "there is no file"),
        (b"", "is empty"),
        (b"text,aspect,label\n", "no rows"),
        (b"text,label\nthe app,1\n", "no column aspect"),
        (b"text,aspect,label\nthe app,app,3\n", "line 2 has a label that is not 0, 1 or 2"),
        (b"text,aspect\nthe app,\n", "line 2 has no text or no aspect"),
        (b"text,aspect\nthe app,app\nthe app, love it,app\n", "line 3 has more fields than the header"),
        (b"text,aspect\n\xff\xfe,app\n", "is not UTF-8"),
        (b'text,aspect\n"the app is\nslow,app\n', "a double quote opens a field on line 2 and does not close it"),
    ],
)
def test_bad_input_gets_sentence_and_leaves_nothing(
    content: bytes | None, sentence: str, package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from absa.src.evaluation import main

    rows, output = tmp_path / "rows.csv", tmp_path / "out.csv"
    if content is not None:
        rows.write_bytes(content)
    assert main([str(rows), "--model", str(package), "--output", str(output)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert sentence in error
    assert error.count("\n") == 1
    assert "the app" not in error
    assert not output.exists()


def test_named_file_maps_labels_of_another_coding(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from absa.src.evaluation import main

    codes = ("1", "-1", "0")
    coded = [(*row[:2], code) for row, code in zip(ROWS, codes, strict=True)]
    rows = write(tmp_path / "rows.csv", ("text", "aspect", "label"), coded)
    words = [str(rows), "--model", str(package), "--output", str(tmp_path / "out.csv")]
    assert main(words) == 2
    assert "EVERGREEN_CONFIG" in capsys.readouterr().err
    (tmp_path / "evergreen.toml").write_text("[data.labels]\n-1 = 0\n0 = 1\n1 = 2\n")
    monkeypatch.setenv("EVERGREEN_CONFIG", str(tmp_path / "evergreen.toml"))
    assert main(words) == 0
    assert "pos/neg F1" in capsys.readouterr().out


def test_a_model_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from absa.src.evaluation import main

    rows = write(tmp_path / "rows.csv", ("text", "aspect"), [row[:2] for row in ROWS])
    assert main([str(rows), "--model", str(tmp_path / "nothing")]) == 2
    assert "there is no model at" in capsys.readouterr().err
