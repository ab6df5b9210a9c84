"""Both lakes keep the same promises: one suite over a folder and an S3 server."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber
from moto.server import ThreadedMotoServer

from absa.adapters.lake_stores import FolderLake, S3Lake, open_lake
from absa.errors import AlreadyExistsError, NotFoundError, PermanentError, UnavailableError
from absa.records.lake import Lake


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    client = boto3.client(
        "s3",
        endpoint_url=f"http://{host}:{port}",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        region_name="us-east-1",
    )
    client.create_bucket(Bucket="contract")
    yield client
    server.stop()


@pytest.fixture(params=["folder", "s3"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    if request.param == "folder":
        return FolderLake(tmp_path / "lake")
    return S3Lake(f"s3://contract/{tmp_path.name}", client=request.getfixturevalue("s3"))


def test_what_was_written_is_read_back(lake: Lake) -> None:
    lake.write("a/b.json", b"one")
    lake.write("a/b.json", b"two")
    assert lake.read("a/b.json") == b"two"
    assert lake.exists("a/b.json")


def test_reading_a_free_key_is_not_found(lake: Lake) -> None:
    assert not lake.exists("a/none")
    with pytest.raises(NotFoundError, match="holds no a/none"):
        lake.read("a/none")


def test_create_never_overwrites(lake: Lake) -> None:
    lake.create("ledger/1", b"first")
    with pytest.raises(AlreadyExistsError):
        lake.create("ledger/1", b"second")
    assert lake.read("ledger/1") == b"first"


def test_s3_create_is_decided_in_one_request() -> None:
    client = boto3.client("s3", aws_access_key_id="test", aws_secret_access_key="test", region_name="us-east-1")
    asked = {"Bucket": "contract", "Key": "ledger/1", "Body": b"first", "IfNoneMatch": "*"}
    with Stubber(client) as server:
        lake = S3Lake("s3://contract", client=client)
        server.add_response("put_object", {}, asked)
        lake.create("ledger/1", b"first")
        for refusal in ("PreconditionFailed", "ConditionalRequestConflict"):
            server.add_client_error("put_object", refusal, expected_params=asked)
            with pytest.raises(AlreadyExistsError):
                lake.create("ledger/1", b"first")
        server.assert_no_pending_responses()


def test_s3_create_with_lost_response_is_ours(s3: Any) -> None:
    def lose_the_first(attempts: int, **_: Any) -> float | None:
        return 0.0 if attempts == 1 else None

    lake = S3Lake("s3://contract/lost", client=s3)
    s3.meta.events.register_first("needs-retry.s3.PutObject", lose_the_first)
    try:
        lake.create("ledger/1", b"mine")
        with pytest.raises(AlreadyExistsError):
            lake.create("ledger/1", b"another's")
    finally:
        s3.meta.events.unregister("needs-retry.s3.PutObject", lose_the_first)
    assert lake.read("ledger/1") == b"mine"


def test_repeated_request_beside_running_one_is_refused() -> None:
    client = boto3.client("s3", aws_access_key_id="test", aws_secret_access_key="test", region_name="us-east-1")
    with Stubber(client) as server:
        server.add_client_error("put_object", "ConditionalRequestConflict", response_meta={"RetryAttempts": 1})
        server.add_client_error("get_object", "NoSuchKey")
        with pytest.raises(AlreadyExistsError):
            S3Lake("s3://contract", client=client).create("ledger/1", b"mine")
        server.assert_no_pending_responses()


def test_listing_is_by_prefix_and_sorted(lake: Lake) -> None:
    for key in ("x/2", "x/1", "xy/3", "z"):
        lake.write(key, b"")
    assert lake.list("x/") == ["x/1", "x/2"]
    assert lake.list("x") == ["x/1", "x/2", "xy/3"]
    assert lake.list("none/") == []


def test_a_deleted_key_is_free_again(lake: Lake) -> None:
    lake.write("k", b"1")
    lake.delete("k")
    lake.delete("k")
    lake.create("k", b"2")
    assert lake.read("k") == b"2"


def test_hanging_lake_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("absa.adapters.lake_stores._READ_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        account = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{silent.getsockname()[1]}", "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1", "AWS_MAX_ATTEMPTS": "1",
        }  # fmt: skip
        for name, value in account.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(UnavailableError, match="ReadTimeoutError"):
            S3Lake("s3://bucket").read("key")


def test_a_key_cannot_leave_the_folder(tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match="relative"):
        FolderLake(tmp_path).write("../outside", b"")


def test_a_failed_write_leaves_nothing_half_written(tmp_path: Path) -> None:
    lake = FolderLake(tmp_path / "lake")
    lake.create("a/1", b"x")
    with pytest.raises(AlreadyExistsError):
        lake.create("a/1", b"y")
    assert [path.name for path in (tmp_path / "lake" / "a").iterdir()] == ["1"]


def test_open_lake_accepts_path_or_file_uri(tmp_path: Path) -> None:
    assert open_lake(str(tmp_path)).uri == open_lake(f"file://{tmp_path}").uri
