"""Outputs for operators under hostile aspects, segments and sources: none holds a command of a customer."""

import csv
import io
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, example, given, settings

import flows.platform.artifacts
from absa.evaluation.assess import assess
from absa.evaluation.gate import GateEvidence, judge
from absa.evaluation.gate_report import render_page
from absa.evaluation.metrics import one_hot
from absa.packaging.card import CardFacts, render_card
from absa.records.rows import Example
from absa.records.schema import Window, utc_now
from absa.records.verdict import PartFigures, Reason, Verdict, VersionFigures
from absa.records.windows import WindowData, load_window
from absa.sinks import csv_text, log_line, write_csv
from flows.cli.traffic_commands import _insight_lines
from flows.demo.story import Story
from flows.monitoring.monitor_window import window_summary
from flows.platform.artifacts import PrefectReporter
from flows.platform.terminal import say
from monitoring.alerts.incidents import message
from monitoring.evidently_reports import build_report, verdict_text
from monitoring.insights import insights, insights_plot
from monitoring.labels.label_import import read_label_file
from monitoring.labels.label_queue import queue_columns, write_queue
from serving.observe.json_logs import JsonLines
from tests.customer_text import HOSTILE, parsed, rendered, texts
from tests.unit.monitoring.conftest import START, Traffic

WINDOW = Window(start=START, end=START + timedelta(hours=1))
FORMULAS = ("=", "+", "-", "@", "\t", "\r")
few = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


def hostile(test: Callable[..., None]) -> Callable[..., None]:
    for text in HOSTILE:
        test = example(text=text)(test)
    return test


def verdict(text: str) -> Verdict:
    """A verdict whose sentences name a customer's segment."""
    part = PartFigures(rows=200, labelled=0)
    figures = VersionFigures(rows=200, labelled=0, f1=None, estimated_f1=0.5, parts={f"segment:{text}": part})
    return Verdict(
        window=WINDOW,
        verdict="STALE",
        version="7",
        by_version={"7": figures},
        reasons=(
            Reason(kind="drift", sentence=f"The share of segment '{text}' rose."),
            Reason(kind="x", sentence=text),
        ),
        action="retrain",
        action_reason=f"Segment {text} changed.",
        at=WINDOW.end,
    )


def found_insights(text: str) -> pl.DataFrame:
    """Insights in which a text is aspect and segment."""
    row = {
        "segment": text, "aspect": text, "rows": 40, "share": 0.5, "low": 0.4, "high": 0.6, "rows_before": 20,
        "change": -0.1, "change_low": -0.2, "change_high": 0.0,
    }  # fmt: skip
    return pl.DataFrame([row, {**row, "segment": None}])


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the last page or table that Prefect received, with its description."""
    got: dict[str, Any] = {}
    for kind in ("markdown", "table"):
        monkeypatch.setattr(
            flows.platform.artifacts,
            f"create_{kind}_artifact",
            lambda content, key, description: got.update(content=content, description=description),
        )
    return got


@settings(max_examples=10)  # a picture takes a tenth of a second
@hostile
@given(text=texts)
def test_insights_any_aspect_is_drawn_and_listed(text: str) -> None:
    found = found_insights(text)
    assert insights_plot(found).startswith(b"\x89PNG")
    lines = list(_insight_lines(found))
    assert all(line == log_line(line) for line in lines)


@few
@hostile
@given(text=texts)
def test_insights_csv_gives_back_every_aspect(tmp_path: Path, text: str) -> None:
    found = found_insights(text)
    write_csv(tmp_path / "insights.csv", found.columns, found.iter_rows())
    rows = list(csv.DictReader((tmp_path / "insights.csv").open(encoding="utf-8-sig", newline="")))
    assert [csv_text(row["aspect"]) for row in rows] == [text, text]
    assert not any(row[name].startswith(FORMULAS) for row in rows for name in ("segment", "aspect"))
    assert float(rows[0]["change"]) == -0.1


@few
@hostile
@given(text=texts)
def test_labels_export_any_text_keeps_every_row(tmp_path: Path, text: str) -> None:
    ids = ["01a228a4-4e35-766b-8e7a-e3488bbc22f0", "01a228a4-52f5-76ae-adca-da81fb5c59fc"]
    rows = [dict(zip(queue_columns(), (each, text, text, "audit", 0, 0.7, 1.0, 2), strict=True)) for each in ids]
    write_queue(pl.DataFrame(rows), tmp_path / "queue.csv")
    read = read_label_file((tmp_path / "queue.csv").read_bytes(), name="queue.csv")
    assert [(row.request_id, row.label) for row in read.labels] == [(each, 2) for each in ids]
    assert read.refused == {}
    cells = [
        cell for row in csv.reader((tmp_path / "queue.csv").open(encoding="utf-8-sig", newline="")) for cell in row
    ]
    assert not any(cell.startswith(FORMULAS) for cell in cells)


@few
@hostile
@given(text=texts)
def test_prefect_artifacts_show_names_as_text(shown: dict[str, Any], text: str) -> None:
    stale = verdict(text)
    PrefectReporter().page(window_summary(stale, [text]), key="verdict", description=text)
    assert set(rendered(shown["content"]).tags) <= {"h2", "ul", "li", "p"}
    assert set(rendered(shown["description"]).tags) <= {"p"}
    PrefectReporter().table([vars(reason) for reason in stale.reasons], key="verdict-reasons", description=text)
    for row in shown["content"]:
        assert all(set(rendered(cell).tags) <= {"p"} for cell in row.values() if isinstance(cell, str))


@few
@hostile
@given(text=texts)
def test_insights_artifact_code_block_stays_closed(text: str) -> None:
    from absa.sinks import markdown_code

    page = rendered(f"## window\n\n{markdown_code(_insight_lines(found_insights(text)))}\n\nafter\n")
    assert page.tags == ["h2", "pre", "code", "p"]


@few
@hostile
@given(text=texts)
def test_webhook_text_holds_no_mention_or_hidden_link(text: str) -> None:
    said = str(message(verdict(text))["text"])
    assert not any(sign in said for sign in ("<", "](", "\n", "\x1b", "@everyone"))


@few
@hostile
@given(text=texts)
def test_evidently_verdict_text_shows_names_as_text(text: str) -> None:
    data = WindowData(window=WINDOW, rows=pl.DataFrame(), total=200, by_version={"7": 200})
    assert set(rendered(verdict_text(verdict(text), data)).tags) <= {"p", "strong", "ul", "li"}


@few
@hostile
@given(text=texts)
def test_log_line_any_message_is_one_json_line(text: str) -> None:
    record = logging.LogRecord("evergreen", logging.ERROR, "f", 1, "lake: %s", (text,), None)
    line = JsonLines("parent").format(record)
    assert line == log_line(line)
    assert json.loads(line)["message"] == f"lake: {text}"


@few
@hostile
@given(text=texts)
def test_terminal_any_line_is_printable(capsys: pytest.CaptureFixture[str], text: str) -> None:
    said = io.StringIO()
    say(f"because: {text}")
    Story(out=said).line(text)
    out = capsys.readouterr().out
    assert out.rstrip("\n") == log_line(f"because: {text}").rstrip("\n")
    assert said.getvalue() == log_line(text) + "\n"


@pytest.fixture(scope="module")
def evidence() -> GateEvidence:
    """Evidence of a gate over a few segments."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 300)
    examples = [
        Example(text=f"t {k}", aspect="t", label=int(y), observed_at=utc_now(), source="s", segment=f"segment {k % 2}")
        for k, y in enumerate(labels)
    ]
    guesses = [np.where(rng.random(300) < share, labels, 1) for share in (0.5, 0.9)]  # worse: slices become reasons
    candidate, champion = map(one_hot, guesses)
    return assess(candidate=candidate, champion=champion, examples=examples, recent=np.arange(300) > 150, resamples=200)


@few
@hostile
@given(text=texts)
def test_gate_report_and_card_show_names_as_text(evidence: GateEvidence, text: str) -> None:
    plain = judge(evidence)
    named = replace(evidence, slices=tuple(replace(each, name=f"segment: {text}") for each in evidence.slices))
    decision = judge(named)
    page = parsed(render_page(named, decision, candidate_name=text, champion_name=text))
    assert page.tags == parsed(render_page(evidence, plain)).tags
    assert log_line(text) in page.text
    facts = CardFacts(
        base_model="b", layers=2, snapshot="s", training={"ended_early": text}, settings={}, calibration={}, parity={},
    )  # fmt: skip
    assert set(rendered(render_card(facts)).tags) <= {"h1", "h2", "ul", "li", "p", "code"}


@pytest.fixture(scope="module")
def hostile_window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WindowData]:
    """A window with thirty rows about each hostile aspect, from as many hostile segments."""
    from absa.adapters.lake_stores import FolderLake

    lake = FolderLake(tmp_path_factory.mktemp("lake"))
    Traffic(lake).send(WINDOW, 30 * len(HOSTILE), labelled=0.5)
    (key,) = lake.list("predictions/")
    path = Path(lake.url(key))
    names = pl.Series([HOSTILE[k % len(HOSTILE)] for k in range(30 * len(HOSTILE))])
    pl.read_parquet(path).with_columns(names.alias("aspect"), names.alias("segment")).write_parquet(path)
    found = insights(lake, WINDOW, min_rows=10)
    assert set(found["aspect"]) == {text.lower() for text in HOSTILE}
    yield load_window(lake, WINDOW)


def test_evidently_html_holds_no_markup_of_segments(hostile_window: WindowData, tmp_path: Path) -> None:
    data = replace(hostile_window, rows=hostile_window.rows.with_columns(model_version=pl.lit("7")))
    harmless = replace(data, rows=data.rows.with_columns(segment=pl.lit("eu")))
    pages = {}
    for name, each, text in (("hostile", data, "</script><script>alert(1)</script>"), ("harmless", harmless, "eu")):
        build_report(each, None, verdict(text)).save_html(str(tmp_path / name))
        pages[name] = (tmp_path / name).read_text(encoding="utf-8")
    assert pages["hostile"].count("<script") == pages["harmless"].count("<script")
    assert pages["hostile"].count("</script") == pages["harmless"].count("</script")
    for text in HOSTILE:
        if "<" in text:
            assert json.dumps(text)[1:-1] not in pages["hostile"]
    assert "prize&lt;/a&gt;" in pages["hostile"]
