"""Use case: judge one package against another by the gate, on test rows of a snapshot or a file. Changes nothing."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from absa.errors import InvalidDataError, NotFoundError, PermanentError
from absa.inference.package import ModelPackage
from absa.records.lake import Lake
from absa.records.schema import parse_iso
from absa.sinks import markdown
from flows.batch.score_batch import find_version
from flows.platform.services import Services

if TYPE_CHECKING:
    import polars as pl

    from absa.evaluation.gate import Comparison, GateDecision, GateEvidence

GATE_CODES: Final = {"PROMOTE": 0, "HOLD": 4, "REJECT": 5}
"""Exit code of `evergreen gate` for each verdict; 1 to 3 are errors."""
_MOST_ROWS: Final = 5_000  # largest number of rows from a snapshot's test split
_RESULTS: Final = {"pass": "passed", "hold": "open", "fail": "failed", "info": "noted"}


@dataclass(frozen=True, kw_only=True)
class GatedPair:
    """Verdict on a candidate. `candidate` and `champion` are names to show, `rows_from` is the origin of the rows."""

    candidate: str
    champion: str
    rows_from: str
    evidence: "GateEvidence"
    decision: "GateDecision"

    @property
    def code(self) -> int:
        """Exit code of the verdict."""
        return GATE_CODES[self.decision.verdict]

    def to_json(self) -> dict[str, Any]:
        """Return the verdict, its reasons and checks, and the content of `gate.json`."""
        from absa.evaluation.gate_report import gate_record

        names = {"candidate": self.candidate, "champion": self.champion, "rows_from": self.rows_from}
        return names | gate_record(self.evidence, self.decision)

    def lines(self) -> Iterator[str]:
        """Yield the verdict for a terminal."""
        overall = self.evidence.overall
        metric = self.evidence.task.metric_name
        yield f"{self.decision.verdict}: {self.candidate} against {self.champion}, {self.rows_from}"
        yield f"{metric} {overall.candidate.f1:.3f} against {overall.champion.f1:.3f} ({_gain(overall)} points)"
        yield from self.decision.reasons

    def markdown(self) -> str:
        """Return the page of the verdict, for a pull request or a summary of CI."""
        evidence, decision = self.evidence, self.decision
        parts = {"all": evidence.overall, "recent": evidence.recent, "established": evidence.established}
        compared = [
            f"| {name} | {each.rows:,} | {each.candidate.f1:.3f} | {each.champion.f1:.3f} | {_gain(each)} |"
            for name, each in parts.items()
            if each is not None
        ]
        candidate, champion = markdown(self.candidate), markdown(self.champion)
        checks = [
            f"| {markdown(check.name)} | {_RESULTS[check.status]} | {markdown(check.sentence)} |"
            for check in decision.checks
        ]
        return "\n".join(
            [
                f"## {decision.verdict}: {candidate} against {champion}",
                "",
                *(f"- {markdown(reason)}" for reason in decision.reasons),
                "",
                f"{markdown(evidence.task.metric)}, {markdown(self.rows_from)}:",
                "",
                f"| rows | number | {candidate} | {champion} | gain in points, 95 % interval |",
                "|---|---|---|---|---|",
                *compared,
                "",
                "| check | result | finding |",
                "|---|---|---|",
                *checks,
            ]
        )


def gate_packages(services: Services, candidate: str, champion: str, *, data: Path | None = None) -> GatedPair:
    """Judge a package against another as after a training. Nothing is registered or recorded.

    Args:
        services: ledger, packages and settings; with folders and a file, no home is needed.
        candidate: version number, or folder of a package.
        champion: version number, or folder of a package.
        data: labelled file; None: the test split of the newest snapshot. Rows of a file count as recent and as
            established rows, and so do all rows if the champion's snapshot is unknown.

    Raises:
        PermanentError: a version is unknown, the packages have different tasks, or there are no rows.
        IntegrityError: a package is broken.
        InvalidDataError: the file cannot be read.
    """
    from absa.evaluation.assess import assess_engines
    from absa.evaluation.gate import judge
    from absa.evaluation.own_tests import read_own_tests
    from absa.evaluation.prediction_price import compare_speed
    from absa.inference.engine import Engine

    (first, name), (second, other) = _package(services, candidate), _package(services, champion)
    task = first.config.task
    if misfit := task.misfit(second.config.task):
        raise PermanentError(f"candidate and champion are of different tasks: {misfit}")
    since = None if data is not None else _snapshot_at(services.lake, second)
    rows, rows_from = _snapshot_rows(services, first, since) if data is None else _file_rows(services, first, data)
    engine, reference = Engine.load(first), Engine.load(second)
    policy, pairs = services.settings.gate, list(rows.select("text", "aspect").iter_rows())
    evidence = assess_engines(
        candidate=engine,
        champion=reference,
        examples=rows,
        recent=[since is None or at > since for at in rows["observed_at"]],
        own_tests=() if policy.tests is None else read_own_tests(services.settings.root / policy.tests, task),
        behaviour_cases=policy.behaviour_cases,
        speed=compare_speed(engine.score, reference.score, pairs),
        task=task,
    )
    if since is None:
        evidence = replace(evidence, recent=evidence.overall, established=evidence.overall)
    return GatedPair(
        candidate=f"candidate {name}",
        champion=f"champion {other}",
        rows_from=rows_from,
        evidence=evidence,
        decision=judge(evidence, policy),
    )


def _package(services: Services, named: str) -> tuple[ModelPackage, str]:
    """Return the package of a version number or a folder, and its name."""
    if Path(named).is_dir():
        return find_version(services, named)
    try:
        return find_version(services, f"models:/{services.settings.task.name}/{named}")
    except PermanentError as error:
        raise PermanentError(f"{named} is neither a package folder nor a version: {error}") from None


def _snapshot_at(lake: Lake, champion: ModelPackage) -> datetime | None:
    """Return the time of a package's snapshot; None if this lake lacks it."""
    from absa.data.snapshot import load_manifest

    if champion.config.snapshot is None:
        return None
    try:
        return parse_iso(load_manifest(lake, champion.config.snapshot).created_at)
    except NotFoundError:
        return None


def _snapshot_rows(services: Services, candidate: ModelPackage, since: datetime | None) -> tuple["pl.DataFrame", str]:
    from absa.data.snapshot import latest_manifest, sample_side

    manifest = latest_manifest(services.lake)
    if manifest is None:
        raise PermanentError("this lake has no snapshot to judge on; name a labelled file by --data FILE")
    if misfit := candidate.config.task.misfit(manifest.task):
        raise PermanentError(f"candidate and snapshot are of different tasks: {misfit}")
    rows = sample_side(services.lake, manifest.digest, "test", _MOST_ROWS, since=since)
    if not rows.height:
        raise PermanentError("the newest snapshot has no test rows; ingest more, or name a file by --data FILE")
    return rows, f"on {rows.height:,} test rows of snapshot {manifest.digest[:12]}"


def _file_rows(services: Services, candidate: ModelPackage, data: Path) -> tuple["pl.DataFrame", str]:
    from absa.data.read import read_examples

    mapping, task = services.settings.data, candidate.config.task
    if mapping.task != task:  # without evergreen.toml, as in CI
        mapping = replace(mapping, task=task, codes={})
    if not data.is_file():
        raise InvalidDataError(f"there is no file {data}; name a labelled file by --data")
    rows, _ = read_examples(data, mapping=mapping)
    return rows, f"on {rows.height:,} rows of {data.name}"


def _gain(compared: "Comparison") -> str:
    gain = compared.gain
    return f"{gain.value * 100:+.1f} ({gain.low * 100:+.1f} to {gain.high * 100:+.1f})"
