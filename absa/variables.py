"""Names of every environment variable with the product's prefix, and the check that refuses any other.

Flows and the router read the same environment and may not import each other, so the names of both are here; tests hold
the two lists against the two settings classes. Names stand without the prefix.
"""

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Final

from absa.errors import PermanentError

PREFIX: Final = "EVERGREEN_"

# fmt: off
FLOWS: Final = frozenset((
    "ALERT_URL", "ANSWERS_WORTH_A_TRAINING", "APPROVAL", "APPROVAL_S", "BASE_MODEL", "BATCH_TOKENS",
    "BEHAVIOUR_CASES", "BEHAVIOUR_MARGIN", "BUDGET_S", "CONFIG", "COOLDOWN_S", "EMBED_ROWS", "ESTABLISHED_MARGIN",
    "EVIDENTLY_PORT", "EVIDENTLY_URL", "FALSE_ALARMS_A_MONTH", "FALSE_ALARM_RATE", "HIDDEN", "HOME", "HOST",
    "LABEL_LAG_S", "LAKE", "LAYERS", "LEARNING_RATE", "MACHINE_WAIT_S", "MAX_AGE_S", "MAX_EPOCHS",
    "MAX_EXPERIMENT_S", "MAX_INT8_F1_LOSS", "MAX_ROWS_A_SOURCE", "MAX_ROWS_A_UNIT", "METRICS", "MIN_EXPOSURE",
    "MIN_LABELS", "MIN_RECENT_ROWS", "MIN_SLICE_ROWS", "MIN_WINDOW_ROWS", "MLFLOW_PORT", "PREDICT_KEY",
    "PREFECT_PORT", "RAMP", "REDACT_TEXT", "REFERENCE_ROWS", "REPLAY", "RETENTION_DAYS", "ROUTER_PORT",
    "ROUTER_URL", "SCHEDULE_MONITOR", "SECRET", "SHADOW_S", "SHIP_INTERVAL_S", "STEP_S", "TRAINING_DEFINITION",
    "TRAINING_QUEUES", "TRUST", "TRUST_TO_MEASURE", "WARM_EPOCHS", "WARM_LAYERS", "WINDOW_S", "WORKERS",
    "WORK_POOL", "WORK_POOL_TYPE", "WORK_POOL_VARIABLES", "WORTHWHILE_GAIN",
))
ROUTER: Final = frozenset((
    "ADMIN_PORT", "ADMIN_TOKEN", "BODY_LIMIT_BYTES", "CACHE_ENTRIES", "CORS_ORIGINS", "FEEDBACK_KEYS", "HOME", "LAKE",
    "LINKS", "MAX_INSTANCES", "MAX_TEXT_CHARS", "METRICS", "METRICS_INTERVAL_S",
    "POLL_INTERVAL_S", "PREDICT_KEY", "QUEUE_MS", "REDACT_TEXT", "REPLICA", "REQUEST_TIMEOUT_S", "ROUTER_HOST",
    "ROUTER_PORT", "SECRET", "SHIP_INTERVAL_S", "SPOOL_LIMIT_MB", "STOP_TIMEOUT_S", "TOKEN_BUDGET", "WORKERS",
))
# fmt: on
_FROM_LAKE: Final = "routers load packages from the lake, so unset it"
REMOVED: Final = {"MLFLOW_TRACKING_URI": _FROM_LAKE, "MODEL_SOURCE": _FROM_LAKE}
"""Settings of earlier releases, each with what to do instead."""
INTERNAL: Final = frozenset({"PART", "UNUSABLE_PROXIES"})
"""Set by one process of the product for another."""
TESTS: Final = frozenset(
    {"CHAOS", "PROVE_KILLS", "PROVE_SOAK_S", "TEST_CLOUD", "TEST_IMAGES", "TEST_KILLS", "TEST_TEMPLATE"}
)
"""Read by tests and `make` alone."""
_WORDING: Final = {
    "Input should be greater": "expected a number greater",
    "Input should be less": "expected a number less",
    "Input should be ": "expected ",
    "String should have ": "expected a text with ",
    "Invalid JSON": "expected JSON",
}
KNOWN: Final = FLOWS | ROUTER | INTERNAL | TESTS
SECRET: Final = ("ADMIN_TOKEN", "FEEDBACK_KEYS", "PREDICT_KEY", "SECRET")
"""Their values are in no message."""
# an empty one would mean a default that the user did not name
_NEVER_EMPTY: Final = {"CONFIG": "file", "HOME": "folder", "LAKE": "folder"}


def check_variables(variables: Mapping[str, str], *, where: str = "", more: Collection[str] = ()) -> None:
    """Check the names of all variables with the prefix, and that their values are text.

    Args:
        variables: the environment, or what a settings file sets; names without the prefix are ignored.
        where: the file that sets them, for messages; empty for the environment.
        more: names that are known to the caller alone, without the prefix.

    Raises:
        PermanentError: a name is unknown, a value is not UTF-8, or a path is empty; the message says which.
    """
    known = sorted(KNOWN | {name.upper() for name in more})
    source = f" in {where}" if where else ""
    for name in sorted(name for name in variables if name.upper().startswith(PREFIX)):
        value, short = variables[name], name.upper().removeprefix(PREFIX)
        if short not in known:
            close = get_close_matches(short, known, n=1, cutoff=0.6)
            advice = f"did you mean {PREFIX}{close[0]}?" if close else "docs/reference/settings.md lists every setting"
            raise PermanentError(f"{printable(name)}{source} is not a setting: {REMOVED.get(short, advice)}")
        if printable(value) != value:
            raise PermanentError(f"{name}{source} is not UTF-8 text: write it again in a UTF-8 terminal")
        if short in _NEVER_EMPTY and not value.strip():
            raise PermanentError(f"{name}{source} is empty: name a {_NEVER_EMPTY[short]}, or unset it")


def refused_value(name: str, message: str, value: object) -> str:
    """Return the sentence for a variable whose value cannot be used.

    Args:
        name: without the prefix, in any case.
        message: as pydantic words it.
        value: as it was given; not quoted where it is a secret.
    """
    expected = message.removeprefix("Value error, ")
    for start, instead in _WORDING.items():
        if expected.startswith(start):
            expected = instead + expected.removeprefix(start)
    shown = "" if name.upper() in SECRET else f", got {printable(str(value))!r}"
    return f"{PREFIX}{name.upper()} cannot be used: {expected}{shown}"


def named_field(error: Exception, fields: Collection[str]) -> str:
    """Return the variable of the field that an error of pydantic-settings quotes."""
    quoted = next((name for name in fields if f'"{name}"' in str(error)), "")
    return f"{PREFIX}{quoted.upper()}"


def printable(text: str) -> str:
    """Return the text with bytes that are not UTF-8 escaped, so that it can be printed and written."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
