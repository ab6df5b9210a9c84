"""Trust in a source of feedback is configured once: one trains and measures, one measures, others do neither."""

from datetime import timedelta
from pathlib import Path

import pytest

from absa.data.ingest import ingest
from absa.data.snapshot import load_side
from absa.ledger.lifecycle import crowned
from absa.policies import StalenessPolicy
from absa.records.schema import SIDES, Window, utc_now
from flows.monitoring.monitor_window import judge_window
from flows.platform.services import Services, build_services
from flows.platform.settings import Settings
from flows.training.training_snapshot import take_snapshot
from monitoring.verdicts import VerdictStore
from serving.process.replica import main
from tests.stand_ins import FakeRegistry
from tests.unit.monitoring.conftest import Traffic

ROWS = {"customer": 40, "survey": 30, "forum": 20}


@pytest.fixture
def services(tmp_path: Path) -> Services:
    """Customers train, a survey measures; a champion serves and a snapshot without feedback is there."""
    settings = Settings(
        home=tmp_path, trust="customer", trust_to_measure="survey", staleness=StalenessPolicy(embed_rows=0)
    )
    services = build_services(settings, environment={}, registry=FakeRegistry({"1": {}}))
    services.ledger.append(
        expected=0, actor="test", action="promote", reason="first", state=crowned("1"), versions={"1": "d"}
    )
    file = tmp_path / "first.csv"
    file.write_text("text,aspect,label\nthe app is slow,app,0\nthe app is great,app,2\n", encoding="utf-8")
    ingest(services.lake, [file])
    return services


@pytest.fixture
def window(services: Services) -> Window:
    """An hour in which each source labelled every answer that it was asked about."""
    end = utc_now().replace(minute=0, second=0, microsecond=0)
    window = Window(start=end - timedelta(hours=1), end=end)
    traffic = Traffic(services.lake)
    for source, count in ROWS.items():
        traffic.send(window, count, labelled=1.0, source=source)
    return window


def test_measuring_source_does_not_train(services: Services, window: Window) -> None:
    figures = judge_window(services, VerdictStore(services.lake), window).verdict.by_version["1"]
    assert figures.labelled == ROWS["customer"] + ROWS["survey"]
    manifest = take_snapshot(services, [])
    learnt = {source for side in SIDES for source in load_side(services.lake, manifest.digest, side)["source"]}
    assert learnt == {"first.csv", "customer"}


def test_a_source_that_trains_measures_too(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, trust="customer, labels", trust_to_measure="survey,labels")
    assert settings.training_sources == ("customer", "labels")
    assert settings.measuring_sources == ("customer", "labels", "survey")


def test_router_key_with_trust_is_refused_at_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("serving.process.replica.log_to_stderr", lambda _: None)
    monkeypatch.setenv("EVERGREEN_FEEDBACK_KEYS", '{"k-secret": {"source": "customer", "trust": "measure"}}')
    assert main([]) == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert "EVERGREEN_FEEDBACK_KEYS" in sentence
    assert "EVERGREEN_TRUST" in sentence
    assert "k-secret" not in sentence
