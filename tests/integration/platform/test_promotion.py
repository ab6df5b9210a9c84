"""Promotion with real packages: a version must serve in a fresh process before it is tried or becomes champion."""

import json
from pathlib import Path

import pytest

from absa.errors import IntegrityError, PermanentError
from absa.ledger.lifecycle import crowned
from flows.platform.services import Services, build_services
from flows.platform.settings import Settings
from flows.promotion.decisions import promote_now
from flows.promotion.promotion_look import Trial, begin, promote_versions
from flows.promotion.promotion_request import PromotionRequest
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


def trial(services: Services, version: str) -> Trial:
    return Trial(services=services, request=PromotionRequest(versions=(version,), revision=None))


def test_rejected_version_is_neither_promoted_nor_tried(tmp_path: Path) -> None:
    services = two_versions(tmp_path, gate="REJECT")
    with pytest.raises(PermanentError, match="version 2 was rejected by the gate"):
        promote_now(services, "2", reason="I say so")
    with pytest.raises(PermanentError, match="version 2 was rejected by the gate"):
        begin(trial(services, "2"))
    assert [record.action for record in services.ledger.follow()] == ["promote"]


def test_operator_promotes_an_accepted_version(tmp_path: Path) -> None:
    services = two_versions(tmp_path)
    record = promote_now(services, "2", reason="I say so")
    assert (record.action, record.state.champion, record.reason) == ("promote", "2", "I say so")
    assert services.head().number == record.number
    with pytest.raises(PermanentError, match="version 3 is not in the ledger"):
        promote_now(services, "3", reason="I say so")


def test_named_challenger_has_served_in_a_fresh_process(tmp_path: Path) -> None:
    services = two_versions(tmp_path)
    assert begin(trial(services, "2")) is None
    head = services.head()
    assert head.state.challenger == "2"
    assert services.ledger.evidence(head)["infra"]["2"]["rows"] > 0


def test_version_that_does_not_serve_is_not_promoted(tmp_path: Path) -> None:
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
        promote_versions(trial(services, "2"))
    assert services.head().state == crowned("1")
