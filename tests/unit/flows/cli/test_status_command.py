"""Status: what runs, what the gate said, what a HOLD lacks, and the next step."""

import json
import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from absa.adapters.lake_stores import FolderLake
from absa.ledger.lifecycle import challenged, crowned, shadowed
from absa.ledger.store import Ledger
from absa.records.schema import Window, utc_now
from absa.records.trainings import begin_training, write_training
from flows.cli.home.gate_advice import advice_for, holding_checks
from flows.cli.status import following_step, screen, status_facts
from flows.platform.services import Services, build_services
from flows.platform.settings import Settings
from flows.training.run_progress import LATEST_FILE
from monitoring.verdicts import VerdictStore
from tests.stand_ins import FakeRegistry, stale

HOLD = {
    "verdict": "HOLD",
    "checks": [
        {"name": "better on recent rows", "status": "hold", "sentence": "There are 40 recent test rows, 100 needed."},
        {"name": "slice billing", "status": "pass", "sentence": "fine"},
    ],
    "training": {"version": "2"},
}


@pytest.fixture
def services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Services:
    for name in [name for name in os.environ if name.startswith("EVERGREEN_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    settings = Settings(home=tmp_path / "home")
    return build_services(settings, environment={}, registry=FakeRegistry())


def append(services: Services, action: Any, state: Any, *, evidence: dict[str, Any] | None = None) -> None:
    ledger = Ledger(FolderLake(services.settings.root / "lake"))
    head = ledger.head()
    ledger.append(
        expected=head.number if head else 0, actor="a", action=action, reason="version 2: the gate says HOLD.",
        state=state, versions={"1": "a", "2": "b"}, evidence=evidence,
    )  # fmt: skip


def test_hold_names_way_to_promotion(services: Services) -> None:
    append(services, "promote", crowned("1"))
    append(services, "register", crowned("1"), evidence=HOLD)
    facts = status_facts(services)
    json.dumps(facts)
    (attempt,) = facts["attempts"]
    assert (attempt["version"], attempt["decision"]) == ("2", "HOLD")
    lines = "\n".join(screen(facts))
    assert "version 2 is on HOLD. For a PROMOTE:\n  - There are 40 recent test rows, 100 needed. To do: label" in lines
    assert "evergreen promote 2 --now" in following_step(facts | {"ledger": {"problems": []}})[1]


def test_running_promotion_has_step_and_date(services: Services) -> None:
    append(services, "promote", crowned("1"))
    append(services, "traffic", shadowed(challenged(crowned("1"), "2"), ()))
    promotion = status_facts(services)["promotion"]
    assert (promotion["step"], promotion["next"]) == ("shadow", "A/B at 1 %")
    assert promotion["next_at"] < promotion["ends_at"]
    assert any(line.startswith("promotion   ") and "; next A/B at 1 %, from 20" in line for line in screen(
        status_facts(services)))  # fmt: skip


def test_dropped_version_is_shown_with_reason(services: Services) -> None:
    append(services, "promote", crowned("1"))
    assert status_facts(services)["dropped"] is None
    append(services, "traffic", shadowed(challenged(crowned("1"), "2"), ()))
    append(services, "rollback", crowned("1"))
    facts = status_facts(services)
    assert (facts["dropped"]["versions"], facts["dropped"]["record"]) == (["2"], 3)
    (line,) = [each for each in screen(facts) if each.startswith("dropped     version 2 at 20")]
    assert line.endswith(" UTC: version 2: the gate says HOLD.")


@pytest.mark.parametrize(("phase", "age_s", "runs"), [("training", 1, True), ("training", 600, False),
                                                      ("finishing", 1, False)])  # fmt: skip
def test_running_training_has_time_left(services: Services, phase: str, age_s: float, runs: bool) -> None:
    now = time.time()
    state = {"started": now - 60, "ends_at": now + 90, "phase": phase, "detail": "", "notes": []}
    file = services.home.folder("jobs") / LATEST_FILE
    file.write_text(json.dumps(state))
    os.utime(file, (now - age_s, now - age_s))
    training = status_facts(services)["training"]
    assert (training is not None) == runs
    if training is not None:
        assert training["left_s"] == pytest.approx(90, abs=5)


def test_failed_and_lost_trainings_are_attempts(services: Services) -> None:
    append(services, "promote", crowned("1"))
    append(services, "register", crowned("1"), evidence=HOLD)
    now = utc_now()
    for age, sentence in ((9 * 86_400, "too old"), (7_200, ""), (-5, "no package within 20 s")):
        began = begin_training(now - timedelta(seconds=age), allowed_s=60, budget_s=60, reason="manual")
        write_training(services.lake, began.failed(began.started_at, sentence) if sentence else began)
    write_training(services.lake, begin_training(now, allowed_s=60, budget_s=60, reason="manual"))  # runs
    facts = status_facts(services)
    assert [(each["outcome"], each["version"], each["decision"]) for each in facts["attempts"]] == [
        ("failed", None, None), ("registered", "2", "HOLD"), ("lost", None, None),
    ]  # fmt: skip
    lines = "\n".join(screen(facts))
    assert "training failed: no package within 20 s" in lines
    assert "training lost: its process was killed before it ended" in lines
    assert "version 2 is on HOLD. For a PROMOTE:" in lines
    facts["ledger"] = {"problems": []}
    assert following_step(facts)[0] == "The last training gave no version; the champion is unchanged"


def test_damaged_records_cost_only_their_own_lines(services: Services) -> None:
    append(services, "promote", crowned("1"))
    lake, now = services.lake, utc_now()
    for age in (20, 10):
        began = begin_training(now - timedelta(seconds=age), allowed_s=60, budget_s=60, reason="manual")
        write_training(lake, began.failed(now - timedelta(seconds=age), f"reason {age}"))
        end = now - timedelta(hours=age)
        VerdictStore(lake).record(stale(Window(start=end - timedelta(hours=1), end=end)))
    training, verdict = lake.list("trainings/")[0], lake.list("verdicts/")[-1]
    lake.write(training, b"[]")
    lake.write(verdict, b"not JSON")
    facts = status_facts(services)
    assert [each["reason"] for each in facts["attempts"]] == ["reason 10"]
    assert [each["verdict"] for each in facts["verdicts"]] == ["STALE"]
    lines = "\n".join(screen(facts))
    assert f"{lake.url(training)} is not the record of a training: delete it" in lines
    assert lines.count(f"{lake.url(verdict)} is not a verdict record") == 1


def test_damaged_ledger_leaves_the_other_lines(services: Services) -> None:
    append(services, "promote", crowned("1"))
    services.lake.write("ledger/0000000001.json", b"[]")
    facts = status_facts(services)
    assert facts["ledger"]["records"] is None
    lines = list(screen(facts))
    assert "champion    unknown: the ledger cannot be read" in lines
    assert any(f"restore {services.lake.url('ledger/')} by docs/runbook.md" in line for line in lines)
    assert following_step(facts)[1] == "evergreen ledger verify"


def test_empty_home_names_first_command(services: Services) -> None:
    assert following_step(status_facts(services)) == (
        "There is no champion yet: no version was trained", "evergreen init FILE, then evergreen train",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "meaning", "following"),
    [
        ({}, "Version 1 is champion, but no server runs", "evergreen serve, or evergreen up"),
        ({"servers": [{"running": True}]}, "Version 1 answers, and no action is needed", "evergreen monitor judges"),
        ({"challenger": "2"}, "version 2 waits for its experiment", "evergreen promote (tries version 2)"),
        ({"verdicts": [{"verdict": "FRESH"}, {"verdict": "STALE"}]}, "no longer fits its traffic", "evergreen retrain"),
        ({"ledger": {"problems": ["x"]}}, "differ from it", "evergreen ledger verify"),
        ({"training": {"line": "x"}}, "A training runs", "wait"),
        (
            {"promotion": {"step": "shadow"}},
            "an experiment decides",
            "wait, or end the experiment with `evergreen rollback`",
        ),
    ],
)
def test_state_names_next_step(services: Services, change: dict[str, object], meaning: str, following: str) -> None:
    append(services, "promote", crowned("1"))
    facts = status_facts(services) | {"ledger": {"problems": []}} | change
    found = following_step(facts)
    assert meaning in found[0]
    assert found[1].startswith(following)


def test_advice_follows_name_of_check() -> None:
    assert advice_for("slice billing") == "ingest more labelled rows of this slice"
    assert "gate's report" in advice_for("another")
    assert holding_checks({}) == []


def test_verdict_shows_every_reason_in_order(services: Services) -> None:
    hour = {"start": "2026-11-02T10:00:00Z", "end": "2026-11-02T11:00:00Z"}
    verdict = {**hour, "verdict": "STALE", "reasons": ["F1 fell.", "Words changed."]}
    lines = list(screen(status_facts(services) | {"verdicts": [verdict]}))
    first = next(place for place, line in enumerate(lines) if line.startswith("verdicts"))
    assert lines[first].endswith("STALE F1 fell.")
    assert lines[first + 1].split(maxsplit=1) == ["Words", "changed."]
    assert lines[first + 1].index("Words") == lines[first].index("F1 fell.")
