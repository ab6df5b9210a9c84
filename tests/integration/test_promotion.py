"""What stands between a version and the ledger: it must serve, and of two who write one looks again."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from absa.errors import ConflictError, IntegrityError, PermanentError
from absa.ledger.lifecycle import crowned
from flows.platform.services import Services, build_services
from flows.platform.settings import Settings
from flows.promotion.decisions import promote_now
from flows.promotion.promote_flow import advance, begin, see_through
from tests.stand_ins import FakeRegistry
from tests.toy_package import build_toy_package


def two_versions(folder: Path, *, gate: str = "PROMOTE") -> Services:
    """Services that know two packages; version 1 is champion."""
    services = build_services(
        Settings(home=folder),
        environment={},
        registry=FakeRegistry({version: {"gate": gate} for version in "12"}),
    )
    digest = services.packages.put(build_toy_package(folder / "built"))
    digests = dict.fromkeys("12", digest)
    services.ledger.append(
        expected=0, actor="test", action="promote", reason="first", state=crowned("1"), versions=digests
    )
    return services


@pytest.mark.parametrize("start", [lambda s: promote_now(s, "2", reason="I say so"), lambda s: begin(s, ["2"])])
def test_a_version_that_the_gate_rejected_is_neither_promoted_nor_tried(
    tmp_path: Path, start: Callable[[Services], object]
) -> None:
    services = two_versions(tmp_path, gate="REJECT")
    with pytest.raises(PermanentError, match=r"version 2 .*rejected by the gate"):
        start(services)
    assert [record.action for record in services.ledger.follow()] == ["promote"]


def test_a_person_promotes_a_version_that_the_gate_let_through(tmp_path: Path) -> None:
    services = two_versions(tmp_path)
    record = promote_now(services, "2", reason="I say so")
    assert (record.action, record.state.champion, record.reason) == ("promote", "2", "I say so")
    assert services.head().number == record.number
    with pytest.raises(PermanentError, match="knows no version 3"):
        promote_now(services, "3", reason="I say so")


def test_promotion_is_refused_in_its_turn(tmp_path: Path) -> None:
    """`promote 1` waits while version 2 is tried, and version 2 is promoted meanwhile: nothing is put into shadow."""
    services = two_versions(tmp_path)
    requested_at = services.head().number
    promote_now(services, "2", reason="I say so")
    before = services.head()
    with pytest.raises(PermanentError, match="the promotion of version 1 is outdated"):
        see_through(services, ["1"], revision=requested_at)
    with pytest.raises(PermanentError, match="knows no version 99"):
        see_through(services, ["99"], revision=before.number)
    assert services.head() == before
    assert see_through(services, ["2"], revision=requested_at) == before, "what it asked for has been done"


def test_experiment_start_leaves_sign_of_life(tmp_path: Path) -> None:
    """A run that is killed before its first look has a name, by which its follower is found."""
    services = two_versions(tmp_path)
    begin(services, ["2"])
    assert advance(services, "2") is None
    assert services.lake.list("experiments/") == ["experiments/v1-vs-v2/watched.json"]


def test_a_version_that_does_not_serve_is_not_promoted(tmp_path: Path) -> None:
    """Its warm-up answers are not those of the evaluation."""
    services = two_versions(tmp_path)
    folder = build_toy_package(tmp_path / "other", seed=1)
    warmup = folder / "warmup.jsonl"
    rows = [json.loads(line) for line in warmup.read_text().splitlines()]
    rows[0]["scores"] = rows[0]["scores"][::-1]
    warmup.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    digest = services.packages.put(folder)
    services.ledger.append(
        expected=1, actor="test", action="register", reason="again", state=crowned("1"), versions={"2": digest}
    )
    with pytest.raises(IntegrityError, match=r"warmup\.jsonl row 1"):
        see_through(services, ["2"])
    assert services.head().state == crowned("1")


def test_a_flow_that_lost_a_race_looks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    import flows.promotion.promote_flow

    calls = iter([ConflictError("look again"), "ended"])

    def advance(*_: object, **__: object) -> object:
        said = next(calls)
        if isinstance(said, Exception):
            raise said
        return said

    monkeypatch.setattr(flows.promotion.promote_flow, "begin", lambda *_, **__: None)
    monkeypatch.setattr(flows.promotion.promote_flow, "advance", advance)
    assert see_through(SimpleNamespace(), ["2"]) == "ended"  # type: ignore[arg-type]
