"""Gate: decision PROMOTE, HOLD or REJECT from evidence, with reasons. Pure: equal evidence gives an equal verdict.

PROMOTE: the candidate is better on recent rows and not worse on established rows, or it is not worse anywhere and
cheaper. It may become challenger. HOLD: not decided yet, or both are equal. An operator may still try the candidate in
shadow mode or an A/B test. REJECT: the candidate is worse in a check that counts, and is never served.
"""

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, Literal

from absa.evaluation.metrics import Metrics
from absa.evaluation.prediction_price import Speed
from absa.evaluation.risk_control import Promises
from absa.evaluation.significance import Gain, binomial_tail, holm, may_lose, rules_out, sign_test
from absa.policies import GatePolicy
from absa.records.experiment import Grounds
from absa.task import ABSA, TaskSpec

Decision = Literal["PROMOTE", "HOLD", "REJECT"]
CheckStatus = Literal["pass", "hold", "fail", "info"]

_PARITY_DIFFERENT: Final = 0.01  # share of labels that int8 may change
_LABELS_OF_LIMIT: Final = 3  # the limit of a label's share is for so many labels; with more it is lower
_NAMED_TESTS: Final = 3  # largest number of own tests that a sentence names


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Candidate and champion (or the trivial baseline) on the same rows. `gain` is in the primary metric."""

    rows: int
    texts: int
    candidate: Metrics
    champion: Metrics
    gain: Gain


@dataclass(frozen=True, kw_only=True)
class SliceComparison:
    """Candidate and champion on one slice: `candidate` and `champion` are shares of `metric`."""

    name: str
    metric: str
    rows: int
    candidate: float
    champion: float
    gain: Gain


@dataclass(frozen=True, kw_only=True)
class BehaviourComparison:
    """Failures of two models in the same cases of one behaviour. `champion_failures` is None without a champion."""

    name: str
    title: str
    cases: int
    failures: int
    champion_failures: int | None = None
    only_candidate: int = 0
    only_champion: int = 0


@dataclass(frozen=True, kw_only=True)
class NewLabel:
    """Label that the champion lacks: number of test rows with the label, and its F1 by the candidate."""

    name: str
    rows: int
    f1: float


@dataclass(frozen=True, kw_only=True)
class Parity:
    """Agreement of int8 with fp32 on the same rows: share of equal labels, and loss of F1 (a share)."""

    rows: int
    label_agreement: float
    f1_loss: float


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """Cost of serving the candidate on this machine with one thread. None: not measured.

    Latencies are measured with one row at a time, `rows_per_s` with 64 rows together.
    """

    size_mb: float
    latency_ms_p50: float | None = None
    latency_ms_p95: float | None = None
    rows_per_s: float | None = None
    memory_mb: float | None = None


@dataclass(frozen=True, kw_only=True)
class DataChecks:
    """Facts about the candidate's snapshot. `leaked_texts` counts texts on both the train and the test side.

    `label_shares` are shares of the training rows, without labels that the champion lacks.
    """

    train_rows: int
    quarantined_share: float = 0.0
    label_shares: tuple[float, ...] | None = None
    leaked_texts: int = 0


@dataclass(frozen=True, kw_only=True)
class GateEvidence:
    """Evidence that the gate judges.

    `baseline` is True if there is no champion yet. Then the candidate is compared with the most frequent label, and in
    `tf_idf` with TF-IDF and logistic regression, if that could be trained.
    `recent` and `established` are None if there are no such rows; `overall` has both. A comparison in `without_source`
    leaves out the recent rows of one source, and has the name of this source.

    If the champion has fewer labels than the candidate, comparisons use only the rows of the champion's labels, and
    `metric` is the metric of the common labels. `new_labels` has the other labels, and `whole` the candidate's metrics
    on all rows.
    """

    task: TaskSpec = ABSA
    metric: str = ABSA.metric
    baseline: bool
    overall: Comparison
    recent: Comparison | None
    established: Comparison | None
    tf_idf: Comparison | None = None
    whole: Metrics | None = None
    new_labels: tuple[NewLabel, ...] = ()
    slices: tuple[SliceComparison, ...] = ()
    without_source: tuple[SliceComparison, ...] = ()
    behaviours: tuple[BehaviourComparison, ...] = ()
    own_tests: tuple[BehaviourComparison, ...] = ()
    parity: Parity | None = None
    footprint: Footprint | None = None
    speed: Speed | None = None
    promises: Promises | None = None
    data: DataChecks | None = None

    @property
    def candidate(self) -> Metrics:
        """Metrics of the candidate on the whole test side."""
        return self.whole or self.overall.candidate


@dataclass(frozen=True, kw_only=True)
class Check:
    """One check of the gate. `sentence` is the finding for a reader without statistics."""

    name: str
    status: CheckStatus
    sentence: str


@dataclass(frozen=True, kw_only=True)
class GateDecision:
    """Verdict with its reasons (sentences, the decisive ones first), all checks, and the grounds of a PROMOTE."""

    verdict: Decision
    reasons: tuple[str, ...]
    checks: tuple[Check, ...] = field(default=())
    grounds: Grounds | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the decision as plain lists and dictionaries."""
        return asdict(self)


def judge(evidence: GateEvidence, policy: GatePolicy | None = None) -> GateDecision:
    """Return PROMOTE, HOLD or REJECT, with the reasons."""
    policy = policy or GatePolicy()
    gain, by_cost = _check_gain(evidence, policy), check_cheaper(evidence, policy)
    cheaper = () if by_cost is None else (by_cost,)
    by_price = gain.status == "hold" and by_cost is not None and by_cost.status == "pass"
    checks = [
        *(cheaper if by_price else ()),
        replace(gain, status="info") if by_price else gain,
        *_check_tf_idf(evidence),
        *_check_established(evidence, policy),
        *_check_slices(evidence, policy),
        *_check_new_labels(evidence),
        *_check_sources(evidence),
        *_check_behaviours(evidence, policy),
        *_check_own_tests(evidence, policy),
        _check_calibration(evidence, policy),
        *_check_parity(evidence, policy),
        *_check_footprint(evidence, policy),
        *(() if by_price else cheaper),
        *_check_data(evidence, policy),
    ]
    for status, verdict in (("fail", "REJECT"), ("hold", "HOLD")):
        if reasons := tuple(check.sentence for check in checks if check.status == status):
            return GateDecision(verdict=verdict, reasons=reasons, checks=tuple(checks))  # type: ignore[arg-type]
    decisive = checks[: 1 if evidence.tf_idf is None else 2]
    reasons = tuple(check.sentence for check in decisive)
    grounds: Grounds = "not worse and cheaper" if by_price else "better"
    return GateDecision(verdict="PROMOTE", reasons=reasons, checks=tuple(checks), grounds=grounds)


def _check_gain(evidence: GateEvidence, policy: GatePolicy) -> Check:
    """Check that the candidate is better on recent rows; a first version must be better than the trivial baseline."""
    compared = evidence.overall if evidence.baseline else evidence.recent
    kind, other = ("labelled", "the trivial baseline") if evidence.baseline else ("recent", "the champion")
    needed = policy.min_rows if evidence.baseline else policy.min_recent_rows
    name = "better than the baseline" if evidence.baseline else "better on recent rows"
    if compared is None or compared.rows < needed:
        rows = compared.rows if compared else 0
        return Check(
            name=name, status="hold", sentence=f"There are {rows} {kind} test rows, {needed} are needed to decide."
        )
    gain = compared.gain
    found = _against(evidence, compared, kind, other)
    if gain.low > policy.min_gain:
        return Check(name=name, status="pass", sentence=f"Better: {found}.")
    if gain.high < 0:
        return Check(name=name, status="fail", sentence=f"Worse: {found}.")
    return Check(name=name, status="hold", sentence=f"No clear gain: {found}.")


def check_cheaper(evidence: GateEvidence, policy: GatePolicy, *, other: str = "the champion") -> Check | None:
    """Check the second reason to promote: a loss above the margin is ruled out, and a prediction is cheaper.

    If one of both is not given, the check only informs; it does not HOLD the version.

    Args:
        evidence: comparison of the candidate with another version.
        policy: margin and saving.
        other: name of the other version in the sentence.

    Returns:
        A check that passes or informs; None for a first version, or without measured speeds.
    """
    if evidence.baseline or evidence.speed is None:
        return None
    speed, margin, gain = evidence.speed, policy.non_inferiority_margin, evidence.overall.gain
    price = (
        f"{speed.candidate_rows_per_s:,.0f} rows/s against {other}'s {speed.champion_rows_per_s:,.0f}: "
        f"{abs(speed.saving):.0%} {'cheaper' if speed.saving >= 0 else 'more expensive'} per prediction"
    )
    slices = [(each.name, each.rows, each.gain) for each in evidence.slices]
    if evidence.recent is not None:
        slices.append(("recent rows", evidence.recent.rows, evidence.recent.gain))
    lost = [
        name
        for name, rows, each in slices
        if rows >= policy.min_slice_rows and may_lose(margin, value=each.value, low=each.low, high=each.high)
    ]
    missing = None
    if speed.saving < policy.min_saving:
        missing = f"at least {policy.min_saving:.0%} cheaper is required"
    elif evidence.overall.rows < policy.min_rows or not rules_out(margin, gain.low):
        missing = f"a loss above {margin * 100:g} points is not ruled out"
    elif lost:
        missing = f"a loss above {margin * 100:g} points is not ruled out in {lost[0]}"
    found = (
        f"{evidence.task.metric_name} changes by {_points(gain.value)} on {evidence.overall.rows:,} rows (95 % "
        f"interval {gain.low * 100:+.1f} to {gain.high * 100:+.1f}), and it scores {price}"
    )
    return Check(
        name="not worse and cheaper",
        status="pass" if missing is None else "info",
        sentence=f"Not worse and cheaper: {found}." if missing is None else f"{found}; {missing}.",
    )


def _check_tf_idf(evidence: GateEvidence) -> list[Check]:
    """HOLD a first version below the baseline. If no version serves yet, it still serves, with this warning."""
    compared = evidence.tf_idf
    if compared is None:
        return []
    below = compared.gain.value < 0
    found = _against(evidence, compared, "labelled", "TF-IDF with logistic regression")
    return [
        Check(
            name="not below TF-IDF",
            status="hold" if below else "pass",
            sentence=f"{'Below' if below else 'Not below'} the TF-IDF baseline: {found}.",
        )
    ]


def _against(evidence: GateEvidence, compared: Comparison, kind: str, other: str) -> str:
    gain, metric = compared.gain, evidence.task.metric_name
    if not evidence.task.is_default:  # the name of the default task's metric needs no explanation
        metric += f" ({evidence.metric})"
    return (
        f"{metric} on {compared.rows:,} {kind} rows is {compared.candidate.f1:.3f}, {other} has "
        f"{compared.champion.f1:.3f}: {_points(gain.value)} (95 % interval {gain.low * 100:+.1f} to "
        f"{gain.high * 100:+.1f})"
    )


def _check_established(evidence: GateEvidence, policy: GatePolicy) -> list[Check]:
    """Check that the candidate is not worse than the champion on established rows."""
    name = "not worse on established rows"
    if evidence.baseline:
        return []
    compared = evidence.established
    if compared is None or compared.rows < policy.min_rows:
        rows = compared.rows if compared else 0
        return [
            Check(
                name=name,
                status="hold",
                sentence=f"There are {rows} established test rows, {policy.min_rows} are needed to decide.",
            )
        ]
    p = compared.gain.p_worse_than(policy.established_margin)
    sentence = (
        f"On {compared.rows:,} established rows {evidence.task.metric_name} goes from {compared.champion.f1:.3f} to "
        f"{compared.candidate.f1:.3f} ({_points(compared.gain.value)}; "
        f"{_loss(p, p, policy, policy.established_margin)})."
    )
    return [Check(name=name, status=_status(p, p, policy), sentence=sentence)]


def _check_slices(evidence: GateEvidence, policy: GatePolicy) -> list[Check]:
    if evidence.baseline:
        return []
    slices = [each for each in evidence.slices if each.rows >= policy.min_slice_rows]
    p_values = [each.gain.p_worse_than(policy.slice_margin) for each in slices]
    return [
        Check(
            name=f"slice {each.name}",
            status=_status(p, adjusted, policy),
            sentence=(
                f"{each.name}: {each.metric} goes from {each.champion:.3f} to {each.candidate:.3f} "
                f"on {each.rows:,} rows ({_points(each.gain.value)}; "
                f"{_loss(p, adjusted, policy, policy.slice_margin)})."
            ),
        )
        for each, p, adjusted in zip(slices, p_values, holm(p_values), strict=True)
    ]


def _check_new_labels(evidence: GateEvidence) -> list[Check]:
    """Report the labels that the champion lacks; they are not part of the comparison."""
    return [
        Check(
            name=f"new label {each.name}",
            status="info",
            sentence=f"The champion lacks the label {each.name}, so its {each.rows:,} test rows are not "
            f"compared; the candidate's F1 of it is {each.f1:.3f}.",
        )
        for each in evidence.new_labels
    ]


def _check_sources(evidence: GateEvidence) -> list[Check]:
    """HOLD if the gain depends on the labels of one source, which may be wrong or malicious."""
    return [
        Check(
            name=f"gain without source {each.name}",
            status="pass" if each.gain.value > 0 else "hold",
            sentence=f"On the {each.rows:,} recent rows that source {each.name} did not label, {each.metric} goes from "
            f"{each.champion:.3f} to {each.candidate:.3f}"
            + ("." if each.gain.value > 0 else ": the gain depends on that source alone."),
        )
        for each in evidence.without_source
    ]


def _check_behaviours(evidence: GateEvidence, policy: GatePolicy) -> list[Check]:
    p_values = [sign_test(each.only_candidate, each.only_champion) for each in evidence.behaviours]
    checks = []
    for each, adjusted in zip(evidence.behaviours, holm(p_values), strict=True):
        found = f"{each.title}: fails {each.failures} of {each.cases} cases"
        if each.champion_failures is None:
            checks.append(Check(name=f"behaviour {each.name}", status="info", sentence=f"{found}."))
            continue
        sentence = f"{found}, the champion {each.champion_failures}."
        if each.champion_failures > policy.behaviour_learned * each.cases:
            sentence += " The champion has not learned it either, so it cannot be lost."
            checks.append(Check(name=f"behaviour {each.name}", status="info", sentence=sentence))
            continue
        more = (each.failures - each.champion_failures) / each.cases
        status: CheckStatus = "pass"
        if more > policy.behaviour_margin and adjusted < policy.behaviour_hold_p:
            status = "fail" if adjusted < policy.reject_p else "hold"
        checks.append(Check(name=f"behaviour {each.name}", status=status, sentence=sentence))
    return checks


def _check_own_tests(evidence: GateEvidence, policy: GatePolicy) -> list[Check]:
    """HOLD if fewer of the user's own tests pass than the policy requires."""
    tests = evidence.own_tests
    if not tests:
        return []
    cases, failures = sum(each.cases for each in tests), sum(each.failures for each in tests)
    passed = 1 - failures / cases
    worst = [each for each in sorted(tests, key=lambda each: -each.failures) if each.failures][:_NAMED_TESTS]
    failing = ", ".join(f"{each.name} ({each.failures} of {each.cases})" for each in worst)
    return [
        Check(
            name="own tests",
            status="pass" if passed >= policy.min_own_tests_passed else "hold",
            sentence=f"{cases - failures:,} of {cases:,} own tests pass ({passed:.1%}); at least "
            f"{policy.min_own_tests_passed:.0%} are required." + (f" Failing most: {failing}." if failing else ""),
        )
    ]


def _check_calibration(evidence: GateEvidence, policy: GatePolicy) -> Check:
    """HOLD if the calibration error is above the limit, and clearly above the champion's error.

    Few rows show an error by chance alone, so only the error beyond chance counts.
    """
    candidate, champion = evidence.overall.candidate, evidence.overall.champion
    limit = policy.max_ece
    found = (
        f"Scores are off by {candidate.ece:.3f} on average (expected calibration error), of which chance alone "
        f"explains {candidate.ece_by_chance:.3f} on {candidate.rows:,} rows"
    )
    if not evidence.baseline:
        limit = max(limit, champion.ece - champion.ece_by_chance + policy.ece_margin)
        found += f"; the champion's by {champion.ece:.3f}, of which {champion.ece_by_chance:.3f}"
    beyond = candidate.ece - candidate.ece_by_chance
    status: CheckStatus = "pass" if beyond <= limit or candidate.rows < policy.min_slice_rows else "hold"
    return Check(name="calibration", status=status, sentence=f"{found}; at most {limit:.3f} beyond chance.")


def _check_parity(evidence: GateEvidence, policy: GatePolicy) -> list[Check]:
    """HOLD if int8 changes more labels than chance explains, and costs too much F1."""
    parity = evidence.parity
    if parity is None or not parity.rows:
        return []
    different = round((1 - parity.label_agreement) * parity.rows)
    by_chance = binomial_tail(different, parity.rows, _PARITY_DIFFERENT) >= policy.reject_p
    status: CheckStatus = "pass" if by_chance or parity.f1_loss <= policy.max_int8_f1_loss else "hold"
    sentence = (
        f"int8 gives {parity.label_agreement:.1%} of {parity.rows:,} rows the same label as fp32 and costs "
        f"{parity.f1_loss * 100:.2f} points of {evidence.task.metric_name}; "
        f"at most {policy.max_int8_f1_loss * 100:.1f} are allowed."
    )
    return [Check(name="int8 parity", status=status, sentence=sentence)]


def _check_footprint(evidence: GateEvidence, policy: GatePolicy) -> list[Check]:
    footprint = evidence.footprint
    if footprint is None:
        return []
    measured = (
        ("size", "The package takes", footprint.size_mb, policy.max_size_mb, "MB"),
        ("latency", "One row takes", footprint.latency_ms_p50, policy.max_latency_ms_p50, "ms (median, one thread)"),
        ("memory", "Serving takes", footprint.memory_mb, policy.max_memory_mb, "MB of memory"),
    )
    return [
        Check(
            name=name,
            status="pass" if value <= limit else "fail",
            sentence=f"{subject} {value:.1f} {unit}; at most {limit:g}.",
        )
        for name, subject, value, limit, unit in measured
        if value is not None
    ]


def _check_data(evidence: GateEvidence, policy: GatePolicy) -> list[Check]:
    data = evidence.data
    if data is None:
        return []
    checks = [
        Check(
            name="quarantine",
            status="pass" if data.quarantined_share <= policy.max_quarantined_share else "hold",
            sentence=f"{data.quarantined_share:.1%} of the rows read were quarantined; "
            f"at most {policy.max_quarantined_share:.0%}.",
        ),
        Check(
            name="leakage",
            status="pass" if data.leaked_texts == 0 else "fail",
            sentence=f"{data.leaked_texts} texts are on both the train and the test side; none may be.",
        ),
    ]
    if data.label_shares is not None:
        least, limit = min(data.label_shares), policy.min_label_share
        if evidence.task.n_labels > _LABELS_OF_LIMIT:
            limit *= _LABELS_OF_LIMIT / evidence.task.n_labels
        checks.append(
            Check(
                name="label balance",
                status="pass" if least >= limit else "hold",
                sentence=f"The rarest label is {least:.1%} of the training rows; at least {limit * 100:.2g}%.",
            )
        )
    return checks


def _status(p: float, adjusted: float, policy: GatePolicy) -> CheckStatus:
    if adjusted < policy.reject_p:
        return "fail"
    return "hold" if p < policy.hold_p else "pass"


def _loss(p: float, adjusted: float, policy: GatePolicy, margin: float) -> str:
    words = {"fail": "proven", "hold": "likely", "pass": "not likely"}[_status(p, adjusted, policy)]
    return f"a loss above {margin * 100:g} points is {words}"


def _points(share: float) -> str:
    return f"{share * 100:+.1f} points"
