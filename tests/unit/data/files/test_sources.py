"""Sources behind a path: a file, a folder, an s3:// prefix."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from absa.adapters.lake_stores import FolderLake
from absa.data.files.source_files import find_sources
from absa.data.ingest import ingest
from absa.errors import InvalidDataError, UnavailableError


@pytest.fixture
def bucket(monkeypatch) -> Iterator[Any]:
    import boto3
    from moto import mock_aws

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        client = boto3.client("s3")
        client.create_bucket(Bucket="data")
        yield client


def rows(count: int) -> pl.DataFrame:
    texts = [f"app {a}{b} works" for a in "abcdefghijklmnopqrst" for b in "abcdefghijklmnopqrst"][:count]
    return pl.DataFrame({"text": texts, "aspect": "app", "label": 1})


def test_folder_yields_data_files_by_name(tmp_path: Path):
    for name in ("b.csv", "a.jsonl", "deep/c.PARQUET", "notes.txt", "deep/image.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    assert [Path(source.uri).name for source in find_sources(str(tmp_path))] == ["a.jsonl", "b.csv", "c.PARQUET"]


def test_an_empty_file_among_others_is_named(tmp_path: Path):
    (tmp_path / "a.csv").write_text("text,aspect,label\n")
    (tmp_path / "b.csv").touch()
    with pytest.raises(InvalidDataError, match=r"b\.csv is empty"):
        find_sources(str(tmp_path))


def test_s3_prefix_gives_same_snapshot_as_files(tmp_path: Path, bucket: Any):
    (tmp_path / "in").mkdir()
    rows(250).write_csv(tmp_path / "in" / "a.csv")
    rows(400)[250:].write_parquet(tmp_path / "in" / "b.parquet")
    for file in (tmp_path / "in").iterdir():
        bucket.upload_file(str(file), "data", f"feedback/{file.name}")
    bucket.put_object(Bucket="data", Key="feedback-of-others/c.csv", Body=b"text,aspect,label\n")
    local = ingest(FolderLake(tmp_path / "one"), [tmp_path / "in"])
    remote = ingest(FolderLake(tmp_path / "two"), ["s3://data/feedback"])
    assert remote.digest == local.digest
    assert remote.total_rows == 400
    assert [source["uri"] for source in remote.sources] == ["s3://data/feedback/a.csv", "s3://data/feedback/b.parquet"]


def test_single_s3_object_is_found_by_whole_key(bucket: Any):
    bucket.put_object(Bucket="data", Key="deep/rows.csv", Body=b"text,aspect,label\nthe app,app,1\n")
    assert [s.size_bytes for s in find_sources("s3://data/deep/rows.csv")] == [32]
    with pytest.raises(InvalidDataError, match="s3://data/nowhere holds no file"):
        find_sources("s3://data/nowhere")
    with pytest.raises(UnavailableError, match="s3://no-such-bucket"):
        find_sources("s3://no-such-bucket/x")


def test_hidden_s3_objects_are_not_input(bucket: Any):
    for key in ("in/rows.csv", "in/.hidden.csv", "in/.ipynb_checkpoints/rows.csv"):
        bucket.put_object(Bucket="data", Key=key, Body=b"text,aspect,label\nthe app,app,1\n")
    assert [s.uri for s in find_sources("s3://data/in/")] == ["s3://data/in/rows.csv"]


def test_empty_s3_folder_object_is_not_file(bucket: Any):
    bucket.put_object(Bucket="data", Key="in/", Body=b"")
    with pytest.raises(InvalidDataError, match="s3://data/in/ holds no file"):
        find_sources("s3://data/in/")
    bucket.put_object(Bucket="data", Key="in/rows.csv", Body=b"text,aspect,label\nthe app,app,1\n")
    assert [s.uri for s in find_sources("s3://data/in/")] == ["s3://data/in/rows.csv"]
