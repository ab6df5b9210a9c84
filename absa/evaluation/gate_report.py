"""Report of the gate: `gate.json` for programs, and the page `gate.html` for readers without statistics."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from absa.evaluation.gate import (
    BehaviourComparison,
    Check,
    CheckStatus,
    GateDecision,
    GateEvidence,
    SliceComparison,
)
from absa.evaluation.metrics import OF_DEFAULT_TASK
from absa.policies import GatePolicy
from absa.records.schema import SCHEMA_VERSION
from absa.sinks import html_text

JSON_FILE: Final = "gate.json"
HTML_FILE: Final = "gate.html"

_MEANING: Final = {
    "PROMOTE": "It may become challenger: it is better on recent rows and not worse on established ones.",
    "HOLD": "The test rows cannot decide, or the two are equal. It is kept; an operator may put it in shadow or A/B.",
    "REJECT": "It is worse somewhere that matters. It is kept with this report and never served.",
}
_FIRST_MEANING: Final = {
    **_MEANING,
    "PROMOTE": "It is the first version, and better than always giving the most frequent label.",
    "HOLD": "Warning: it is the first version, and serves only because nothing else does.",
}
_SIGN: Final[dict[CheckStatus, str]] = {"pass": "passed", "hold": "open", "fail": "failed", "info": "noted"}


def gate_record(evidence: GateEvidence, decision: GateDecision, policy: GatePolicy | None = None) -> dict[str, Any]:
    """Return the content of `gate.json`: verdict, reasons, checks, evidence and policy."""
    return {
        "schema_version": SCHEMA_VERSION,
        **decision.to_json(),
        "evidence": asdict(evidence, dict_factory=_without_unmeasured),
        "policy": asdict(policy or GatePolicy()),
    }


def _without_unmeasured(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name: value for name, value in fields if value is not None or name not in OF_DEFAULT_TASK}


def write_report(
    folder: Path,
    evidence: GateEvidence,
    decision: GateDecision,
    *,
    policy: GatePolicy | None = None,
    candidate_name: str = "candidate",
    champion_name: str = "champion",
) -> None:
    """Write `gate.json` and `gate.html` into a package folder.

    Args:
        folder: existing folder for the files.
        evidence: evidence that the gate judged.
        decision: the result of `judge`.
        policy: limits of the gate; None: the defaults.
        candidate_name: name of the candidate on the page, such as "run 3f2a".
        champion_name: name of the champion on the page, such as "version 7".
    """
    record = gate_record(evidence, decision, policy)
    (folder / JSON_FILE).write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    page = render_page(evidence, decision, candidate_name=candidate_name, champion_name=champion_name)
    (folder / HTML_FILE).write_text(page, encoding="utf-8")


def render_page(
    evidence: GateEvidence,
    decision: GateDecision,
    *,
    candidate_name: str = "candidate",
    champion_name: str = "champion",
) -> str:
    """Return the page, which is self-contained: it loads no script, font or picture.

    The page names segments and sources, and quotes no text.
    """
    other = "baseline" if evidence.baseline else champion_name
    meaning = (_FIRST_MEANING if evidence.baseline else _MEANING)[decision.verdict]
    if decision.grounds == "not worse and cheaper":
        meaning = "It may become challenger: it is not worse than the champion, and cheaper."
    sections = [
        _section("Why", f"<ul>{''.join(f'<li>{html_text(reason)}</li>' for reason in decision.reasons)}</ul>"),
        _section("How good it is", _comparisons(evidence, candidate_name, other)),
        _section("What was checked", _checks(decision.checks)),
    ]
    if evidence.slices:
        sections.append(_section("Parts of the data", _slices(evidence.slices, candidate_name, other)))
    if evidence.without_source:
        title = "Recent rows without those of one source"
        sections.append(_section(title, _slices(evidence.without_source, candidate_name, other)))
    if evidence.behaviours:
        source = "templates" if evidence.task.is_default else "test rows"
        note = f"<p class=note>Cases are made from {source}, and are in no training data.</p>"
        sections.append(_section("Behaviour", _behaviours(evidence.behaviours, candidate_name, other) + note))
    if evidence.own_tests:
        sections.append(_section("Your own tests", _behaviours(evidence.own_tests, candidate_name, other)))
    if evidence.new_labels:
        sections.append(_section("New labels", _new_labels(evidence)))
    sections.append(_section("Where it errs", _confusion(evidence)))
    return _PAGE.format(
        verdict=decision.verdict,
        lower=decision.verdict.lower(),
        title=f"{html_text(candidate_name)} against {html_text(other)}",
        meaning=meaning,
        sections="\n".join(sections),
    )


def _comparisons(evidence: GateEvidence, candidate: str, other: str) -> str:
    parts = (
        (("Most frequent label", evidence.overall), ("TF-IDF with logistic regression", evidence.tf_idf))
        if evidence.baseline
        else (
            ("Recent rows", evidence.recent),
            ("Established rows", evidence.established),
            ("All rows", evidence.overall),
        )
    )
    rows = [
        (
            name,
            f"{part.rows:,}",
            f"{part.candidate.f1:.3f}",
            f"{part.champion.f1:.3f}",
            _interval(part.gain.value, part.gain.low, part.gain.high),
            f"{part.candidate.accuracy:.3f}",
            *_shares(part.candidate.flip_rate, part.candidate.neutral_miss_rate),
        )
        for name, part in parts
        if part is not None
    ]
    table = _table(
        (
            "baseline" if evidence.baseline else "",
            "rows",
            candidate,
            other,
            "gain in points",
            "accuracy",
            *(("opposite called", "opinion missed") if evidence.task.is_default else ()),
        ),
        rows,
    )
    metric, mistakes = f"F1: {html_text(evidence.metric)}", ""
    if evidence.task.is_default:
        metric = "pos/neg F1: the mean of the F1 of negative and of positive over all rows, the neutral ones included"
        mistakes = (
            " 'Opposite called' is a positive taken for a negative or the other way round; 'opinion missed' is a "
            "positive or negative taken for neutral."
        )
    return table + (
        f"<p class=note>The two middle columns and the gain are {metric} (1 is perfect). The gain's bar is its 95 % "
        "interval, by repeated draws of the texts. Recent rows were observed since the champion's "
        f"snapshot.{mistakes}</p>"
    )


def _shares(*shares: float | None) -> tuple[str, ...]:
    return tuple(f"{share:.1%}" for share in shares if share is not None)


def _checks(checks: tuple[Check, ...]) -> str:
    order: tuple[CheckStatus, ...] = ("fail", "hold", "pass", "info")
    rows = "".join(
        f"<tr><td><span class='sign {each.status}'>{_SIGN[each.status]}</span></td>"
        f"<td class=text>{html_text(each.name)}</td><td class=text>{html_text(each.sentence)}</td></tr>"
        for each in sorted(checks, key=lambda check: order.index(check.status))
        if not each.name.startswith(("behaviour ", "slice "))
        or each.status in ("fail", "hold")  # all slices and behaviours are in tables below
    )
    return f"<table>{rows}</table>"


def _slices(slices: tuple[SliceComparison, ...], candidate: str, other: str) -> str:
    rows = [
        (
            each.name,
            f"{each.rows:,}",
            each.metric,
            f"{each.candidate:.3f}",
            f"{each.champion:.3f}",
            _interval(each.gain.value, each.gain.low, each.gain.high),
        )
        for each in slices
    ]
    return _table(("", "rows", "measure", candidate, other, "gain in points"), rows)


def _behaviours(behaviours: tuple[BehaviourComparison, ...], candidate: str, other: str) -> str:
    rows = [
        (
            each.title,
            f"{each.cases:,}",
            f"{each.failures} ({each.failures / each.cases:.0%})",
            ""
            if each.champion_failures is None
            else f"{each.champion_failures} ({each.champion_failures / each.cases:.0%})",
        )
        for each in behaviours
    ]
    return _table(("", "cases", f"{candidate} fails", f"{other} fails"), rows)


def _new_labels(evidence: GateEvidence) -> str:
    rows = [(each.name, f"{each.rows:,}", f"{each.f1:.3f}") for each in evidence.new_labels]
    note = "<p class=note>The champion does not know these labels; their rows take no part in the comparison.</p>"
    return _table(("", "rows", "F1"), rows) + note


def _confusion(evidence: GateEvidence) -> str:
    labels = evidence.task.labels
    rows = [
        (f"truly {label}", *(f"{count:,}" for count in counts), f"{f1:.3f}")
        for label, counts, f1 in zip(labels, evidence.candidate.confusion, evidence.candidate.f1_by_label, strict=True)
    ]
    return _table(("", *(f"called {label}" for label in labels), "F1"), rows)


def _section(title: str, body: str) -> str:
    return f"<section><h2>{html_text(title)}</h2>{body}</section>"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    header = "".join(f"<th>{html_text(each)}</th>" for each in head)
    body = "".join("<tr>" + "".join(_cell(index, each) for index, each in enumerate(row)) + "</tr>" for row in rows)
    return f"<table><thead><tr>{header}</tr></thead><tbody>{body}</tbody></table>"


class _Markup(str):
    """Markup that this module made from numbers, so that it needs no escaping."""

    __slots__ = ()


def _cell(index: int, content: str) -> str:
    if isinstance(content, _Markup):
        return f"<td class=bar>{content}</td>"
    return f"<td{' class=text' if index == 0 else ''}>{html_text(content)}</td>"


def _interval(value: float, low: float, high: float) -> _Markup:
    """Return a drawn interval from low to high on a scale of -20 to 20 points, with the figures beside it."""
    reach, half = 0.2, 70  # half of the scale as a share, and in pixels

    def x(share: float) -> float:
        return half + 5 + half * max(-1.0, min(1.0, share / reach))

    colour = "#2f6f4f" if low > 0 else "#b3372f" if high < 0 else "#777777"
    return _Markup(
        f"<svg width='{2 * half + 10}' height='16' role='img' aria-label='{value * 100:+.1f}'>"
        f"<line x1='{half + 5}' y1='0' x2='{half + 5}' y2='16' stroke='#bbb'/>"
        f"<line x1='{x(low):.1f}' y1='8' x2='{x(high):.1f}' y2='8' stroke='{colour}' stroke-width='4'/>"
        f"<circle cx='{x(value):.1f}' cy='8' r='4.5' fill='{colour}'/></svg> "
        f"<span class=figure>{value * 100:+.1f} <small>[{low * 100:+.1f}, {high * 100:+.1f}]</small></span>"
    )


_PAGE: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{verdict}: {title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; color: #222; background: #f6f6f3; margin: 0; }}
main {{ max-width: 1060px; margin: 0 auto; padding: 24px; }}
header {{ border-left: 10px solid; padding: 4px 18px; background: #fff; }}
header.promote {{ border-color: #2f6f4f; }} header.hold {{ border-color: #c2962d; }}
header.reject {{ border-color: #b3372f; }}
h1 {{ margin: 6px 0 0; font-size: 30px; }} h1 + p {{ margin: 0; color: #555; }}
h2 {{ font-size: 17px; margin: 0 0 8px; }}
section {{ background: #fff; margin: 14px 0; padding: 14px 18px; overflow-x: auto; }}
table {{ border-collapse: collapse; width: 100%; }}
th {{ text-align: right; font-weight: 600; color: #555; font-size: 13px; }} th:first-child {{ text-align: left; }}
td, th {{ padding: 4px 10px 4px 0; border-bottom: 1px solid #eee; vertical-align: middle; }}
td {{ text-align: right; font-variant-numeric: tabular-nums; }} td.text {{ text-align: left; }}
td.bar {{ white-space: nowrap; }} td.bar svg {{ vertical-align: middle; }}
.figure {{ display: inline-block; width: 150px; text-align: right; }} small {{ color: #777; }}
.sign {{ display: inline-block; width: 62px; text-align: center; border-radius: 4px; font-size: 13px; color: #fff; }}
.sign.pass {{ background: #2f6f4f; }} .sign.hold {{ background: #c2962d; }} .sign.fail {{ background: #b3372f; }}
.sign.info {{ background: #888; }}
.note {{ color: #666; font-size: 13px; }}
</style>
<main>
<header class="{lower}"><h1>{verdict}</h1><p>{title}</p><p>{meaning}</p></header>
{sections}
</main>
</html>
"""
