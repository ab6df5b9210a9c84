"""A batch job: every row once, in order, whatever the form of the input and whenever it is killed."""

import csv
import json
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from absa.adapters.lake_stores import FolderLake
from absa.batch.batch_job import BatchJob, BatchProgress, run_batch
from absa.batch.local import LocalProcesses
from absa.batch.verify_batch import verify_batch
from absa.errors import ConflictError, InvalidDataError
from absa.inference.engine import Engine
from absa.records.schema import Window
from absa.records.windows import load_window
from tests.s3_server import s3_server
from tests.toy_package import WORDS, build_toy_package
from tests.unit.data.test_workbooks import workbook

HERE = LocalProcesses(workers=0)
HEADER = ("id", "Text", "aspect", "label")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_toy_package(tmp_path_factory.mktemp("package"))


def rows(count: int, seed: int = 0) -> list[tuple[str, str, str, str]]:
    chance = random.Random(seed)
    return [
        (f"r{index}", " ".join(["the app", *chance.choices(sorted(WORDS), k=chance.randrange(20))]), "app", "?")
        for index in range(count)
    ]


def write_csv(path: Path, content: list[tuple[str, ...]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([HEADER, *content])
    return path


def read_output(folder: Path) -> pa.Table:
    return pa.concat_tables(pq.read_table(path) for path in sorted(folder.glob("part-*.parquet")))


def job(input_path: Path, output: Path, package: Path, **changes: Any) -> BatchJob:
    wanted = {"version": "7", "partition_rows": 100, **changes}
    return BatchJob(input_uri=str(input_path), output_uri=str(output), package=package, **wanted)


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet", "xlsx"])
def test_each_form_gives_input_in_order_with_answers(form: str, package: Path, tmp_path: Path) -> None:
    content = rows(250)
    path = tmp_path / f"rows.{form}"
    if form == "csv":
        write_csv(path, content)
    elif form == "xlsx":
        pytest.importorskip("fastexcel", reason="optional dependency evergreen[excel]")
        workbook(path, [list(row) for row in (HEADER, *content)])
    elif form == "jsonl":
        path.write_text("".join(json.dumps(dict(zip(HEADER, row, strict=True))) + "\n" for row in content))
    else:
        columns = zip(*content, strict=True)
        pq.write_table(pa.table(dict(zip(HEADER, map(list, columns), strict=True))), path)
    seen: list[BatchProgress] = []
    result = run_batch(
        job(path, tmp_path / "out", package),
        engines=LocalProcesses(workers=2 if form == "csv" else 0),
        on_progress=seen.append,
    )
    found = read_output(tmp_path / "out")
    assert found.column("row_id").to_pylist() == list(range(250))
    assert found.column("id").to_pylist() == [row[0] for row in content]
    assert found.column("input_label").to_pylist() == ["?"] * 250
    scores = Engine.load(package).score([(row[1], row[2]) for row in content])
    assert found.column("label").to_pylist() == scores.argmax(axis=1).tolist()
    assert set(found.column("model_version").to_pylist()) == {"7"}
    assert result.manifest["rows"] == 250
    assert sum(result.manifest["by_sentiment"].values()) == 250
    assert [each["rows"] for each in result.manifest["partitions"]] == [100, 100, 50]
    assert (seen[0].share < 0.5, seen[-1].rows) == (True, 250)
    assert verify_batch(str(tmp_path / "out")) == []


def test_cut_text_is_marked_in_output_and_log(package: Path, tmp_path: Path) -> None:
    texts = [f"{'it is the app and ' * 60}. the waiter is {word}" for word in ("great", "terrible")]
    texts += ["the waiter is great", "the\u00a0waiter is bad"]
    path = write_csv(tmp_path / "rows.csv", [(f"r{k}", text, "the waiter", "?") for k, text in enumerate(texts)])
    logged = tmp_path / "lake"
    run_batch(job(path, tmp_path / "out", package, log_uri=str(logged)), engines=HERE)
    found = read_output(tmp_path / "out")
    assert found.column("truncated").to_pylist() == [True, True, False, False]
    assert found.column("label").to_pylist() == [2, 0, 2, 0]
    records = [pq.read_table(path, partitioning=None) for path in logged.rglob("*.parquet")]
    assert pa.concat_tables(records).column("truncated").to_pylist() == [True, True, False, False]
    assert verify_batch(str(tmp_path / "out")) == []


def test_output_of_an_earlier_release_is_verified(package: Path, tmp_path: Path) -> None:
    """Earlier releases had no answer `truncated`, so a column of that name in the input kept its name."""
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"text": "the app", "aspect": "app", "truncated": "mine"}) + "\n")
    run_batch(job(path, tmp_path / "out", package), engines=HERE)
    assert verify_batch(str(tmp_path / "out")) == []
    part = tmp_path / "out" / "part-000000.parquet"
    written = pq.read_table(part)
    assert written.column("input_truncated").to_pylist() == ["mine"]
    old = written.drop_columns(["truncated"]).rename_columns({"input_truncated": "truncated"})
    pq.write_table(old, part)
    assert verify_batch(str(tmp_path / "out")) == []


def test_folder_is_read_in_name_order(package: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    content = rows(90)
    write_csv(folder / "b.csv", content[40:])
    write_csv(folder / "a.csv", content[:40])
    (folder / "notes.txt").write_text("not an input")
    run_batch(job(folder, tmp_path / "out", package), engines=HERE)
    assert read_output(tmp_path / "out").column("id").to_pylist() == [row[0] for row in content]


def test_bad_rows_are_quarantined_and_accounted_for(package: Path, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "rows.csv", rows(150))
    with path.open("ab") as file:
        file.write(b"x,,app,?\r\nx,the app,,?\r\nx,the app,service,?\r\nx,too,few\r\nx,the \xff app,app,?\r\n")
    result = run_batch(job(path, tmp_path / "out", package), engines=HERE)
    assert result.manifest["rows"] == 150
    assert result.manifest["quarantined"] == {
        "aspect_empty": 1,
        "aspect_not_in_text": 1,
        "invalid_utf8": 1,
        "malformed_row": 1,
        "text_empty": 1,
    }
    aside = pq.read_table(tmp_path / "out" / "quarantine" / "part-000001.parquet")
    assert aside.column("row_id").to_pylist() == [150, 151, 152, 153, 154]
    assert verify_batch(str(tmp_path / "out")) == []


def test_many_bad_rows_fail_job_without_manifest(package: Path, tmp_path: Path) -> None:
    bad = [("x", "the app", "service", "?")] * 60
    path = write_csv(tmp_path / "rows.csv", [*rows(100), *bad])
    with pytest.raises(InvalidDataError, match="60 of 160 rows"):
        run_batch(job(path, tmp_path / "out", package), engines=HERE)
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_a_second_run_does_nothing_and_says_so(package: Path, tmp_path: Path) -> None:
    wanted = job(write_csv(tmp_path / "rows.csv", rows(120)), tmp_path / "out", package)
    first = run_batch(wanted, engines=HERE)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    second = run_batch(wanted, engines=HERE)
    assert (first.already_done, second.already_done) == (False, True)
    assert second.manifest == first.manifest
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before


def test_an_output_never_mixes_versions_or_inputs(package: Path, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "rows.csv", rows(30))
    run_batch(job(path, tmp_path / "out", package), engines=HERE)
    with pytest.raises(ConflictError, match="another version"):
        run_batch(job(path, tmp_path / "out", package, version="8"), engines=HERE)
    write_csv(path, rows(31))
    with pytest.raises(ConflictError, match="another input"):
        run_batch(job(path, tmp_path / "out", package), engines=HERE)


def test_verification_finds_what_was_changed(package: Path, tmp_path: Path) -> None:
    run_batch(job(write_csv(tmp_path / "rows.csv", rows(120)), tmp_path / "out", package), engines=HERE)
    part = tmp_path / "out" / "part-000001.parquet"
    table = pq.read_table(part)
    pq.write_table(table.slice(1), part)
    assert any("exactly once" in sentence for sentence in verify_batch(str(tmp_path / "out")))
    flipped = pa.array([(label + 1) % 3 for label in table.column("label").to_pylist()], pa.int8())
    pq.write_table(table.set_column(table.column_names.index("label"), "label", flipped), part)
    assert any("highest score" in sentence for sentence in verify_batch(str(tmp_path / "out")))
    part.unlink()
    assert any("missing" in sentence for sentence in verify_batch(str(tmp_path / "out")))


@pytest.mark.parametrize(
    ("name", "content", "error", "sentence"),
    [
        ("rows.csv", None, InvalidDataError, "is missing"),
        ("rows.csv", b"", InvalidDataError, "is empty"),
        ("rows.csv", b"text,label\na,1\n", InvalidDataError, "no column aspect"),
        ("rows.parquet", b"nonsense", InvalidDataError, "not a Parquet file"),
        ("rows.xls", b"PK", InvalidDataError, "is a workbook; expected CSV"),
        ("rows.pdf", b"%PDF", InvalidDataError, "is none of"),
    ],
)
def test_input_that_cannot_be_read_gets_one_sentence(
    name: str, content: bytes | None, error: type[Exception], sentence: str, package: Path, tmp_path: Path
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(error, match=sentence):
        run_batch(job(path, tmp_path / "out", package), engines=HERE)


def test_input_and_output_may_lie_in_s3(package: Path, tmp_path: Path) -> None:
    with s3_server() as client:
        client.create_bucket(Bucket="rows")
        client.upload_file(str(write_csv(tmp_path / "rows.csv", rows(120))), "rows", "in/rows.csv")
        wanted = BatchJob(
            input_uri="s3://rows/in/", output_uri="s3://rows/out", package=package, version="7", partition_rows=50
        )
        assert run_batch(wanted, engines=HERE).manifest["rows"] == 120
        assert verify_batch("s3://rows/out") == []
        assert run_batch(wanted, engines=HERE).already_done


@pytest.mark.slow
def test_a_killed_worker_loses_nothing(package: Path, tmp_path: Path) -> None:
    import psutil

    killed: list[int] = []

    def kill_one(_: BatchProgress) -> None:
        if not killed:
            workers = [each for each in psutil.Process().children() if "spawn_main" in " ".join(each.cmdline())]
            killed.append(workers[0].pid)
            workers[0].kill()

    path = write_csv(tmp_path / "rows.csv", rows(1000))
    run_batch(
        job(path, tmp_path / "out", package, partition_rows=50), engines=LocalProcesses(workers=2), on_progress=kill_one
    )
    assert killed
    assert verify_batch(str(tmp_path / "out")) == []


def test_answers_are_logged_once_for_monitoring(package: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    lines = [{"text": f"the app is great {k}", "aspect": "app", "segment": "mobile", "unit_id": "u"} for k in range(25)]
    path.write_text("".join(json.dumps(each) + "\n" for each in lines))
    lake = FolderLake(tmp_path / "lake")
    wanted = job(path, tmp_path / "out", package, partition_rows=10, log_uri=lake.uri, secret=b"s")
    run_batch(wanted, engines=HERE)
    for key in ("manifest.json", "done/000001.json"):  # as a kill after the log and before the commit leaves it
        (tmp_path / "out" / key).unlink()
    run_batch(wanted, engines=HERE)
    found = read_output(tmp_path / "out")
    now = datetime.now(UTC)
    logged = load_window(lake, Window(start=now - timedelta(hours=1), end=now + timedelta(hours=1)))
    assert sorted(logged.rows["request_id"]) == sorted(found.column("request_id").to_pylist())
    assert len(set(logged.rows["request_id"])) == logged.total == 25
    assert logged.by_version == {"7": 25}
    assert set(logged.rows["arm"]) == {"batch"}
    assert set(logged.rows["segment"]) == {"mobile"}
    assert logged.rows["unit_hash"].n_unique() == 1
    assert verify_batch(str(tmp_path / "out")) == []


def test_an_output_inside_its_input_is_refused(package: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    write_csv(folder / "a.csv", rows(5))
    with pytest.raises(InvalidDataError, match="is inside the input"):
        run_batch(job(folder, folder / "out", package), engines=HERE)


def test_records_are_cut_at_their_start(package: Path, tmp_path: Path) -> None:
    content = [(f"r{k}", f'the app "é{k}"\n\nis great, straße', "app", "?") for k in range(35)]
    folder = tmp_path / "in"
    folder.mkdir()
    for name, part in (("a", content[:18]), ("b", content[18:])):
        path = write_csv(folder / f"{name}.csv", part)
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    run_batch(job(folder, tmp_path / "out", package, partition_rows=4), engines=HERE)
    found = read_output(tmp_path / "out")
    assert [found.column("id").to_pylist(), found.column("Text").to_pylist()] == [
        [row[0] for row in content],
        [row[1] for row in content],
    ]
    table = pa.table(dict(zip(HEADER, map(list, zip(*content, strict=True)), strict=True)))
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=7)
    run_batch(job(tmp_path / "rows.parquet", tmp_path / "out2", package, partition_rows=4), engines=HERE)
    assert read_output(tmp_path / "out2").column("id").to_pylist() == [row[0] for row in content]
    assert verify_batch(str(tmp_path / "out2")) == []


def test_progress_says_how_much_is_left(package: Path, tmp_path: Path) -> None:
    seen: list[BatchProgress] = []
    path = write_csv(tmp_path / "rows.csv", rows(400))
    run_batch(job(path, tmp_path / "out", package), engines=HERE, on_progress=seen.append)
    assert [each.rows for each in seen] == [100, 200, 300, 400]
    assert seen[0].share < seen[1].share < seen[2].share < seen[3].share
    assert seen[-1].share > 0.99
    assert all(each.eta_s is not None for each in seen)
    assert seen[-1].eta_s is not None and seen[-1].eta_s < 0.1


def test_input_columns_named_like_outputs_are_kept(package: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    lines = ["row_id,unreadable,reason,label,input_label,text,aspect"]
    lines += [f"r{k},u{k},why{k},l{k},i{k},the app is great,{'app' if k else 'parcel'}" for k in range(12)]
    path.write_text("\n".join(lines))
    run_batch(job(path, tmp_path / "out", package), engines=HERE)
    assert verify_batch(str(tmp_path / "out")) == []
    found = read_output(tmp_path / "out")
    own = ["sentiment", "scores", "truncated", "model_version", "scored_at"]
    assert found.column_names == [
        "row_id", "input_row_id", "unreadable", "reason", "input_input_label", "input_label", "text", "aspect", "label",
        *own,
    ]  # fmt: skip
    assert found.slice(0, 1).drop_columns(["label", *own]).to_pylist() == [
        {
            "row_id": 1, "input_row_id": "r1", "unreadable": "u1", "reason": "why1", "input_input_label": "l1",
            "input_label": "i1", "text": "the app is great", "aspect": "app",
        }
    ]  # fmt: skip
    aside = pq.read_table(tmp_path / "out" / "quarantine" / "part-000000.parquet").to_pylist()
    assert [(each["row_id"], each["reason"], each["input_reason"]) for each in aside] == [
        (0, "aspect_not_in_text", "why0")
    ]


def test_text_column_of_bytes_is_named_before_scoring(package: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"text": [b"the app"], "aspect": ["app"]}), path)
    with pytest.raises(InvalidDataError, match=r"column text of .* is binary"):
        run_batch(job(path, tmp_path / "out", package), engines=HERE)


def test_files_with_conflicting_column_types_are_refused(package: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name, ids in (("a", [1, 2]), ("b", ["x", "y"])):
        rows_of_file = {"id": ids, "text": ["the app is great"] * 2, "aspect": ["app"] * 2}
        pq.write_table(pa.table(rows_of_file), folder / f"{name}.parquet")
    with pytest.raises(InvalidDataError, match="other types"):
        run_batch(job(folder, tmp_path / "out", package), engines=HERE)


def test_stray_quote_loses_no_batch_row(package: Path, tmp_path: Path) -> None:
    lines = ["text\taspect", *(f"the app {k}\tapp" for k in range(20)), '"Best app ever\tapp']
    lines += [*(f"the app {k}\tapp" for k in range(20, 50)), '"love it" said i of the app\tapp', "the app\tapp"]
    path = tmp_path / "rows.tsv"
    path.write_text("\n".join(lines))
    manifest = run_batch(job(path, tmp_path / "out", package, partition_rows=7), engines=HERE).manifest
    assert (manifest["rows_read"], manifest["rows"], manifest["quarantined"]) == (53, 53, {})
    assert (manifest["as_written"], manifest["first_as_written"]) == (2, f"{path} line 22")
    assert read_output(tmp_path / "out").column("text").to_pylist() == [line.split("\t")[0] for line in lines[1:]]
    assert verify_batch(str(tmp_path / "out")) == []


def test_lines_inside_a_quote_are_quarantined_together(package: Path, tmp_path: Path) -> None:
    rows_before = [f"the app {k},app" for k in range(4)]
    lines = ["text,aspect", *rows_before, '"Best app ever,app', *rows_before, 'my 15",app', *rows_before]
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(lines))
    wanted = job(path, tmp_path / "out", package, partition_rows=5, max_bad_share=0.5)
    manifest = run_batch(wanted, engines=HERE).manifest
    assert (manifest["rows_read"], manifest["rows"], manifest["quarantined"]) == (14, 8, {"ambiguous_quote": 6})
    assert [each["rows"] + each["quarantined"] for each in manifest["partitions"]] == [10, 4]
    aside = pq.read_table(tmp_path / "out" / "quarantine" / "part-000000.parquet")
    assert aside.column("line").to_pylist() == [6, 7, 8, 9, 10, 11]
    assert aside.column("text").to_pylist() == lines[5:11]
    assert verify_batch(str(tmp_path / "out")) == []
    with pytest.raises(InvalidDataError, match=rf"6 of 14 rows .* the first is {path} line 6: ambiguous_quote"):
        run_batch(job(path, tmp_path / "out2", package, partition_rows=5), engines=HERE)


def test_verification_finds_lines_that_no_row_stands_for(package: Path, tmp_path: Path) -> None:
    """As an output of a reader that lost lines would be: rows that are numbered without a gap, and too few."""
    path = write_csv(tmp_path / "rows.csv", rows(30))
    run_batch(job(path, tmp_path / "out", package), engines=HERE)
    part = tmp_path / "out" / "part-000000.parquet"
    table = pq.read_table(part)
    pq.write_table(table.slice(0, 20), part)
    problems = verify_batch(str(tmp_path / "out"))
    assert "the input has 30 lines or rows of data, the output accounts for 20 of them" in problems
    texts = table.column("Text").to_pylist()
    texts[3] = "the app\nr4,the app,app,?\nr5,the app,app,?"
    place = table.column_names.index("Text")
    pq.write_table(table.set_column(place, "Text", pa.array(texts)), part)
    assert "partition 0: row 3 holds lines that look like other rows" in verify_batch(str(tmp_path / "out"))


def test_lines_of_every_form_are_accounted_for(package: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    texts = ["the app", "the app\n\nis great", "the\rapp", "the app, well"]
    with (folder / "a.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "aspect"), *((text, "app") for text in texts), ("x",), ("the app\nx",)])
    lines = [json.dumps({"text": text, "aspect": "app"}) for text in texts]
    (folder / "b.jsonl").write_text("\n \n".join([*lines, "[]", '{"text": "\\ud83d", "aspect": "app"}']))
    pq.write_table(pa.table({"text": texts, "aspect": ["app"] * 4}), folder / "c.parquet")
    wanted = job(folder, tmp_path / "out", package, partition_rows=3, max_bad_share=0.5)
    manifest = run_batch(wanted, engines=HERE).manifest
    assert manifest["rows_read"] == 17
    assert manifest["quarantined"] == {"invalid_utf8": 1, "malformed_row": 2, "not_an_object": 1, "stray_quote": 1}
    assert verify_batch(str(tmp_path / "out")) == []
