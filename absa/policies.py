"""Policies: settings of a team as frozen records, one per section of evergreen.toml. Pure.

Shares and F1 losses are 0 to 1 (0.02 is two points), durations are seconds. A value outside its range raises
pydantic's ValidationError.
"""

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, ConfigDict, Field, Strict
from pydantic.dataclasses import dataclass

RecipeName = Literal["fast", "best", "distilled"]
"""Names of `absa.training.recipes.RECIPES`."""
LONGEST_S: Final = 10 * 365 * 86400.0  # longest duration: later dates cannot be written
_DAY_S: Final = 86_400.0
_STRICT: Final = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
_HEAD_WIDTH: Final = 32  # width of an attention head of a narrow student


def _rising(shares: tuple[float, ...]) -> tuple[float, ...]:
    if not shares or list(shares) != sorted(set(shares)) or not 0 < shares[0] <= shares[-1] < 1:
        raise ValueError("expected rising shares between 0 and 1 such as [0.05, 0.25] (5 %, then 25 %)")
    return shares


def _falling(sizes: tuple[int, ...]) -> tuple[int, ...]:
    if list(sizes) != sorted(set(sizes), reverse=True) or not all(size >= 1 for size in sizes):
        raise ValueError("expected falling numbers of layers such as [6, 3, 2]")
    return sizes


def _whole_heads(width: int | None) -> int | None:
    if width is not None and width % _HEAD_WIDTH:
        raise ValueError(f"expected a multiple of {_HEAD_WIDTH}")
    return width


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class GatePolicy:
    """Limits of the gate.

    A loss above its margin HOLDs the candidate if the loss is likely (p below `hold_p`). The loss REJECTs the candidate
    if it is proven (p below `reject_p`, corrected over all slices or behaviours). For behaviours, p of a HOLD
    (`behaviour_hold_p`) is corrected too, because one of sixteen behaviours often fails by chance. A behaviour that the
    champion fails in more than `behaviour_learned` of the cases was never learned and cannot be lost. Few rows show
    neither a likely nor a proven loss, so there are minimum numbers of rows.

    A candidate that is not better is promoted too if a loss above `non_inferiority_margin` is ruled out and it saves
    `min_saving` of the champion's price per prediction.
    """

    min_recent_rows: Annotated[
        int,
        Field(
            ge=0,
            description="Recent test rows below which the gate HOLDs; about twice as many labels start a retraining.",
        ),
    ] = 100
    min_rows: Annotated[int, Field(ge=1, description="Established test rows below which their loss is not judged.")] = (
        50
    )
    min_slice_rows: Annotated[int, Field(ge=1, description="Test rows that a slice needs to be judged.")] = 100
    min_gain: Annotated[float, Field(ge=-1, le=1, description="Gain of F1 on recent rows that a promotion needs.")] = (
        0.0
    )
    non_inferiority_margin: Annotated[
        float, Field(gt=0, le=1, description="Loss of F1 that must be ruled out before a lower price promotes.")
    ] = 0.01
    min_saving: Annotated[
        float, Field(gt=0, lt=1, description="Saving per prediction with which a version that is not worse promotes.")
    ] = 0.2
    established_margin: Annotated[float, Field(ge=0, le=1, description="Permitted loss of F1 on established rows.")] = (
        0.02
    )
    slice_margin: Annotated[float, Field(ge=0, le=1, description="Loss of F1 in a slice that is allowed.")] = 0.02
    behaviour_margin: Annotated[
        float, Field(ge=0, le=1, description="Share of cases that a behaviour may fail more often.")
    ] = 0.03
    behaviour_cases: Annotated[int, Field(ge=1, le=10_000, description="Cases of each behavioural test.")] = 60
    behaviour_learned: Annotated[
        float, Field(ge=0, le=1, description="Share of failed cases above which a behaviour was never learned.")
    ] = 0.5
    behaviour_hold_p: Annotated[float, Field(gt=0, lt=1, description="Corrected p of a behaviour that HOLDs.")] = 0.2
    hold_p: Annotated[float, Field(gt=0, lt=1, description="p below which a likely loss HOLDs.")] = 0.1
    reject_p: Annotated[float, Field(gt=0, lt=1, description="Corrected p below which a proven loss REJECTs.")] = 0.05
    max_ece: Annotated[float, Field(ge=0, le=1, description="Largest expected calibration error.")] = 0.1
    ece_margin: Annotated[float, Field(ge=0, le=1, description="Calibration error above the champion's.")] = 0.03
    max_int8_f1_loss: Annotated[float, Field(ge=0, le=1, description="Loss of F1 that int8 may cost.")] = 0.005
    max_size_mb: Annotated[float, Field(gt=0, description="Largest package, in MB.")] = 500.0
    max_latency_ms_p50: Annotated[float, Field(gt=0, description="Slowest median answer, in ms.")] = 100.0
    max_memory_mb: Annotated[float, Field(gt=0, description="Largest memory of the model, in MB.")] = 2000.0
    max_quarantined_share: Annotated[float, Field(ge=0, le=1, description="Largest share of bad rows.")] = 0.2
    min_label_share: Annotated[
        float, Field(ge=0, le=1, description="Smallest share of a label in training; less with over three labels.")
    ] = 0.02
    tests: Annotated[
        str | None,
        Field(min_length=1, description="CSV file in the home with your own tests: text, label, name; unset: none."),
    ] = None
    min_own_tests_passed: Annotated[float, Field(ge=0, le=1, description="Share of your own tests that must pass.")] = (
        0.9
    )


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class StalenessPolicy:
    """Limits of the monitor: when a version is stale, and when a retraining pays.

    A training pays if it avoids `answers_worth_a_training` wrong answers within `payback_s`; 0: a training always pays.
    `false_alarm_rate` is the rate per window, over all columns and both kinds of loss together.
    """

    false_alarm_rate: Annotated[float, Field(gt=0, lt=1, description="False drift alarms per window.")] = 0.01
    false_alarms_a_month: Annotated[
        float | None, Field(gt=0, description="False drift alarms in 30 days; set, it decides the rate per window.")
    ] = None
    min_rows: Annotated[int, Field(ge=1, description="Predictions without which a window is not judged.")] = 100
    min_reference_rows: Annotated[int, Field(ge=1, description="Reference rows without which nothing drifts.")] = 100
    reference_rows: Annotated[
        int,
        Field(ge=1, description="Early live rows of each hour of the cycle to compare with; at least the two above."),
    ] = 1000
    cycle: Annotated[
        Literal["week", "day", "none"],
        Field(description="Rhythm of healthy traffic: windows are compared with like hours and days, hours, or all."),
    ] = "week"
    exclude_floods: Annotated[
        bool, Field(description="Leave floods of near-identical texts out of tests, estimates and the reference.")
    ] = True
    embed_rows: Annotated[
        int, Field(ge=0, description="Rows per side compared in the model's own embedding; 0: none.")
    ] = 500
    min_labels: Annotated[int, Field(ge=1, description="Labels that a measured loss needs.")] = 50
    tolerated_f1_loss: Annotated[float, Field(ge=0, le=1, description="Loss of F1 that is tolerated.")] = 0.03
    max_report_ratio: Annotated[
        float,
        Field(ge=1, description="Largest ratio of the rates at which wrong and right answers are reported, unaudited."),
    ] = 4.0
    strong_effect: Annotated[float, Field(ge=0, le=1, description="Size of a drift that makes a version stale.")] = 0.20
    min_new_labels: Annotated[
        int,
        Field(ge=0, description="New labels that a retraining needs; at least as many as its gate needs to decide."),
    ] = 0
    cooldown_s: Annotated[
        float, Field(ge=0, le=LONGEST_S, description="Shortest time between two retrainings, in seconds.")
    ] = 6 * 3600.0
    max_age_s: Annotated[
        float | None, Field(gt=0, le=LONGEST_S, description="A champion that is older is stale; unset: never.")
    ] = None
    answers_worth_a_training: Annotated[
        float, Field(ge=0, description="Wrong answers that a retraining must avoid to pay; 0: it always does.")
    ] = 0.0
    payback_s: Annotated[
        float, Field(gt=0, le=LONGEST_S, description="Time in which it must avoid them, in seconds.")
    ] = 7 * _DAY_S

    def __post_init__(self) -> None:
        needed = max(self.min_rows, self.min_reference_rows)
        if self.reference_rows < needed:
            raise ValueError(
                f"reference_rows: expected at least min_rows and min_reference_rows ({needed}), or no window is ever "
                f"judged, got {self.reference_rows}"
            )


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class ExperimentPolicy:
    """Steps and limits of a live experiment.

    `alpha` is the chance of a false promotion or roll-back over the whole experiment and all `comparisons` (the number
    of challengers, set by the flow). The experiment stops if the gain is surely smaller than `worthwhile_gain`. The
    interval is narrowest for differences of the size `effect_scale`. A challenger that saves `min_saving` of the
    champion's price per prediction is promoted if a loss above `non_inferiority_margin` is ruled out.
    """

    ramp: Annotated[
        tuple[float, ...],
        Strict(False),
        AfterValidator(_rising),
        Field(description="The challenger's share in each step of an A/B test, rising."),
    ] = (0.01, 0.05, 0.25, 0.5)
    step_s: Annotated[
        float, Field(ge=0, le=LONGEST_S, description="Shortest time that a step of the ramp takes, in seconds.")
    ] = 1800.0
    shadow_s: Annotated[float, Field(ge=0, le=LONGEST_S, description="Duration of the shadow phase, in seconds.")] = (
        1800.0
    )
    approval_s: Annotated[float, Field(gt=0, le=LONGEST_S, description="Longest wait for an approval, in seconds.")] = (
        7 * _DAY_S
    )
    alpha: Annotated[float, Field(gt=0, lt=1, description="Chance of a wrong decision.")] = 0.05
    comparisons: Annotated[int, Field(ge=1)] = 1
    min_exposure: Annotated[int, Field(ge=1, description="Outcomes per arm before a promotion.")] = 400
    min_exposure_to_stop: Annotated[
        int, Field(ge=1, description="Outcomes per arm before a rollback on labels; at most min_exposure counts.")
    ] = 100
    min_units: Annotated[int, Field(ge=1, description="Units per arm before a decision on labels.")] = 20
    max_duration_s: Annotated[
        float, Field(gt=0, le=LONGEST_S, description="Longest time of an A/B test, which follows a shadow, in seconds.")
    ] = 14 * _DAY_S
    worthwhile_gain: Annotated[
        float, Field(ge=-1, le=1, description="Stop an experiment once the gain is surely smaller.")
    ] = 0.0
    non_inferiority_margin: Annotated[
        float, Field(gt=0, le=1, description="Loss of right answers to rule out before a lower price promotes.")
    ] = 0.01
    min_saving: Annotated[
        float, Field(gt=0, lt=1, description="Saving per prediction with which a version that is not worse promotes.")
    ] = 0.2
    effect_scale: Annotated[float, Field(gt=0, le=1, description="Size of the difference that is found soonest.")] = (
        0.03
    )
    srm_alpha: Annotated[float, Field(gt=0, lt=1, description="p below which the split of traffic is wrong.")] = 0.001
    max_error_increase: Annotated[float, Field(ge=0, le=1, description="Guardrail: more errors.")] = 0.01
    max_p99_ratio: Annotated[float, Field(ge=1, description="Guardrail: p99 latency by the champion's.")] = 2.0
    max_p99_increase_ms: Annotated[float, Field(ge=0, description="Guardrail: p99 above the champion's, in ms.")] = 50.0
    max_confidence_drop: Annotated[float, Field(ge=0, le=1, description="Guardrail: less mean confidence.")] = 0.20
    collapsed_class: Annotated[float, Field(gt=0, le=1, description="Guardrail: share of one class.")] = 0.98
    min_guard_requests: Annotated[int, Field(ge=1, description="Requests per arm that a guardrail needs.")] = 200

    def longest_s(self, *, shadow: bool) -> float:
        """Return the longest time of an experiment in seconds, from the start of its shadow, or of its A/B test."""
        return self.max_duration_s + (self.shadow_s if shadow else 0.0)


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class TrainingRecipe:
    """Data, recipe and size of the platform's trainings; the trainer chooses values that are not set."""

    recipe: Annotated[
        RecipeName,
        Field(description="fast; best: R-Drop and dropout, twice the time a pass; distilled: learns from teachers."),
    ] = "fast"
    teachers: Annotated[
        tuple[str, ...],
        Strict(False),
        Field(description="Encoders that teach: folders or hub names; twice: two seeds. Unset: base_model twice."),
    ] = ()
    teacher_budget_s: Annotated[
        float, Field(gt=0, le=LONGEST_S, description="Time of each teacher, before the budget of the run, in seconds.")
    ] = 900.0
    unlabelled: Annotated[
        str | None,
        Field(min_length=1, description="File without labels that teachers answer on; unset: none."),
    ] = None
    learn_from_predictions: Annotated[
        bool, Field(description="Let teachers answer on inputs of the prediction log of the last 30 days.")
    ] = False
    base_model: Annotated[
        str, Field(min_length=1, description="Base model: minilm-l6, a folder, or a hub's NAME or NAME@REVISION.")
    ] = "minilm-l6"
    layers: Annotated[int | None, Field(ge=1, description="Keep this many layers of the base model; unset: all.")] = (
        None
    )
    ladder: Annotated[
        tuple[int, ...],
        Strict(False),
        AfterValidator(_falling),
        Field(description="Layers of the students that one run makes within its budget, falling; unset: one student."),
    ] = ()
    hidden: Annotated[
        int | None,
        Field(ge=_HEAD_WIDTH, description="Width of a small student, a multiple of 32; unset: the base model's."),
        AfterValidator(_whole_heads),
    ] = None
    warm_layers: Annotated[
        int | None, Field(ge=0, description="Layers that a retraining learns, from the top; unset: all.")
    ] = None
    replay: Annotated[
        float | None, Field(ge=0, description="Established train rows per recent one in a retraining; unset: all.")
    ] = None
    learning_rate: Annotated[float | None, Field(gt=0, le=1, description="Peak learning rate.")] = None
    batch_tokens: Annotated[int | None, Field(ge=1, description="Tokens of a batch, padding included.")] = None
    label_lag_s: Annotated[
        float, Field(ge=0, le=LONGEST_S, description="Delay with which labels still train, in seconds.")
    ] = 14 * _DAY_S
    max_rows_a_unit: Annotated[int, Field(ge=1, description="Labels of one unit that train, at most.")] = 200
    max_rows_a_source: Annotated[int, Field(ge=1, description="Labels of one source that train, at most.")] = 200_000

    def __post_init__(self) -> None:
        if self.warm_layers is not None and self.layers is not None and self.warm_layers > self.layers:
            raise ValueError(f"warm_layers: expected 0 to {self.layers}, the layers, got {self.warm_layers}")
        if self.ladder and self.layers is not None:
            raise ValueError("layers and ladder: expected one of them, got both")

    @property
    def sizes(self) -> tuple[int | None, ...]:
        """Number of layers of each student of a run, the largest first; None: all layers of the base model."""
        return self.ladder or (self.layers,)

    @property
    def teacher_names(self) -> tuple[str, ...]:
        """Names of the teachers; twice the base model if none is set."""
        return self.teachers or (self.base_model, self.base_model)

    @property
    def teaching_s(self) -> float:
        """Seconds that teachers may take before the budget of a run; 0 for a recipe without teachers."""
        return len(self.teacher_names) * self.teacher_budget_s if self.recipe == "distilled" else 0.0


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class ServingPolicy:
    """Promise of the answers."""

    promise: Annotated[
        float | None,
        Field(
            ge=0.7, le=0.99, description="Share of right answers among certain answers; unset: no answer is certain."
        ),
    ] = None


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class AlertPolicy:
    """Messages of the webhook."""

    events: Annotated[
        Literal["incidents", "all"],
        Field(description="incidents, or all: every ledger record and every finished training too."),
    ] = "incidents"
    format: Annotated[
        Literal["json", "slack"], Field(description="json: the whole message; slack: its text alone.")
    ] = "json"


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class RouterTuning:
    """Limits and pace of a router."""

    ship_interval_s: Annotated[
        float, Field(gt=0, le=LONGEST_S, description="Seconds between shipments of the log to the lake.")
    ] = 5.0
    poll_interval_s: Annotated[float, Field(gt=0, description="Seconds between looks at the ledger.")] = 0.5
    spool_limit_mb: Annotated[
        float, Field(ge=0, description="Log that waits for the lake, at most; 0 logs nothing and takes no feedback.")
    ] = 1024.0
    token_budget: Annotated[int, Field(ge=1, description="Tokens of a batch, padding included, at most.")] = 256
    cache_entries: Annotated[int, Field(ge=0, description="Answers that a worker remembers.")] = 20_000
    body_limit_bytes: Annotated[int, Field(ge=1024, description="Largest body.")] = 1_048_576
    max_instances: Annotated[int, Field(ge=1, description="Items of a request, at most.")] = 128
    max_text_chars: Annotated[int, Field(ge=1, description="Characters of a text, at most.")] = 10_000
    request_timeout_s: Annotated[float, Field(gt=0, description="Longest that a request may take.")] = 10.0
    stop_timeout_s: Annotated[float, Field(gt=0, description="Longest that stopping may take.")] = 10.0
