"""Environment variables with the product's prefix: their names, places in evergreen.toml, and the check of names.

A test compares the names with the fields of both settings classes. Names are written without the prefix.
"""

import json
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Final

from absa.errors import PermanentError

PREFIX: Final = "EVERGREEN_"

# fmt: off
PLACES: Final[Mapping[str, Mapping[str, str]]] = {
    "servers": {each: each.upper() for each in (
        "lake", "host", "prefect_port", "mlflow_port", "evidently_port", "router_port", "router_url", "evidently_url",
        "router_host", "admin_port", "links",
    )},
    "router": {each: each.upper() for each in (
        "workers", "queue_ms", "cors_origins", "redact_text", "replica", "metrics", "metrics_interval_s",
    )},
    "training": {
        "budget_s": "BUDGET_S", "queues": "TRAINING_QUEUES", "definition": "TRAINING_DEFINITION",
        "machine_wait_s": "MACHINE_WAIT_S",
    },
    "experiment": {"approval": "APPROVAL"},
    "schedules": {
        "monitor": "SCHEDULE_MONITOR", "training": "SCHEDULE_TRAINING", "window_s": "WINDOW_S",
        "retention_days": "RETENTION_DAYS",
    },
    "trust": {"train": "TRUST", "measure": "TRUST_TO_MEASURE"},
    "alerts": {"url": "ALERT_URL"},
    "work_pool": {"name": "WORK_POOL", "type": "WORK_POOL_TYPE", "variables": "WORK_POOL_VARIABLES"},
    "secrets": {
        "units": "SECRET", "predict_key": "PREDICT_KEY", "admin_token": "ADMIN_TOKEN", "feedback_keys": "FEEDBACK_KEYS",
        "alerts": "ALERT_SECRET",
    },
}
"""Section and key in evergreen.toml of each setting, by the name of its variable without the prefix."""
KEYS: Final = {name: (section, key) for section, table in PLACES.items() for key, name in table.items()}
_SECTIONS: Final = {
    "gate": (
        "MIN_RECENT_ROWS", "MIN_SLICE_ROWS", "ESTABLISHED_MARGIN", "BEHAVIOUR_MARGIN", "BEHAVIOUR_CASES",
        "MAX_INT8_F1_LOSS",
    ),
    "staleness": (
        "REFERENCE_ROWS", "FALSE_ALARM_RATE", "FALSE_ALARMS_A_MONTH", "EMBED_ROWS", "COOLDOWN_S", "MAX_AGE_S",
        "ANSWERS_WORTH_A_TRAINING",
    ),
    "experiment": ("RAMP", "STEP_S", "SHADOW_S", "APPROVAL_S", "MIN_EXPOSURE", "WORTHWHILE_GAIN"),
    "training": (
        "BASE_MODEL", "LAYERS", "HIDDEN", "WARM_LAYERS", "REPLAY", "LEARNING_RATE",
        "BATCH_TOKENS", "LABEL_LAG_S", "MAX_ROWS_A_UNIT", "MAX_ROWS_A_SOURCE",
    ),
    "router": (
        "SHIP_INTERVAL_S", "POLL_INTERVAL_S", "SPOOL_LIMIT_MB", "TOKEN_BUDGET", "CACHE_ENTRIES", "BODY_LIMIT_BYTES",
        "MAX_INSTANCES", "MAX_TEXT_CHARS", "REQUEST_TIMEOUT_S", "STOP_TIMEOUT_S",
    ),
}
# fmt: on
MOVED: Final = {name: (section, name.lower()) for section, names in _SECTIONS.items() for name in names} | {
    "MIN_LABELS": ("staleness", "min_new_labels"),
    "MIN_WINDOW_ROWS": ("staleness", "min_rows"),
    "MAX_EXPERIMENT_S": ("experiment", "max_duration_s"),
}
"""Section and key in evergreen.toml of each variable that release 0.1 read."""
_OF_RECIPE: Final = "set recipe = fast, best or distilled in section [training] of evergreen.toml"
_FROM_LAKE: Final = "routers load packages from the lake, so unset it"
REMOVED: Final = {
    **{name: f"set {key} in section [{section}] of evergreen.toml" for name, (section, key) in MOVED.items()},
    "MIN_WINDOW_ROWS": "set min_rows and min_reference_rows in section [staleness] of evergreen.toml",
    "MAX_EPOCHS": _OF_RECIPE,
    "WARM_EPOCHS": _OF_RECIPE,
    "MLFLOW_TRACKING_URI": _FROM_LAKE,
    "MODEL_SOURCE": _FROM_LAKE,
}
"""Settings of earlier releases, each with what to do instead."""
INTERNAL: Final = frozenset({"PART", "UNUSABLE_PROXIES"})
"""Variables that one process of the product sets for another."""
TESTS: Final = frozenset(
    {"CHAOS", "PROVE_KILLS", "PROVE_SOAK_S", "TEST_CLOUD", "TEST_ENCODER", "TEST_IMAGES", "TEST_KILLS", "TEST_TEMPLATE"}
)
"""Variables that only tests and `make` read."""
_WORDING: Final = {
    "Input should be greater": "expected a number greater",
    "Input should be less": "expected a number less",
    "Input should be ": "expected ",
    "String should have ": "expected a text with ",
    "Invalid JSON": "expected JSON",
}
KNOWN: Final = frozenset({"CONFIG", "HOME", "PROFILE", *KEYS}) | INTERNAL | TESTS
SECRET: Final = ("ADMIN_TOKEN", "ALERT_SECRET", "ALERT_URL", "FEEDBACK_KEYS", "PREDICT_KEY", "SECRET")
"""Variables whose values are never part of a message."""
# an empty value would silently select a default
_NEVER_EMPTY: Final = {"CONFIG": "file", "HOME": "folder", "LAKE": "folder"}


def check_variables(variables: Mapping[str, str], *, where: str = "") -> None:
    """Check the names of all variables with the prefix, and that their values are text.

    Args:
        variables: the environment, or the values of a settings file; names without the prefix are ignored.
        where: the file that sets them, for messages; empty for the environment.

    Raises:
        PermanentError: a name is unknown or moved into a section of evergreen.toml, a value is not UTF-8, or a path is
            empty; the message names the variable.
    """
    source = f" in {where}" if where else ""
    for name in sorted(name for name in variables if name.upper().startswith(PREFIX)):
        value, short = variables[name], name.upper().removeprefix(PREFIX)
        if short not in KNOWN:
            close = get_close_matches(short, sorted(KNOWN), n=1, cutoff=0.6)
            advice = f"did you mean {PREFIX}{close[0]}?" if close else "docs/reference/settings.md lists every setting"
            raise PermanentError(f"{printable(name)}{source} is not a setting: {REMOVED.get(short, advice)}")
        if printable(value) != value:
            raise PermanentError(f"{name}{source} is not UTF-8 text: write it again in a UTF-8 terminal")
        if short in _NEVER_EMPTY and not value.strip():
            raise PermanentError(f"{name}{source} is empty: name a {_NEVER_EMPTY[short]}, or unset it")


def given_values(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables with the prefix that are not empty, by upper-case name without the prefix."""
    names = {name: name.upper() for name, value in variables.items() if value}
    return {upper.removeprefix(PREFIX): variables[name] for name, upper in names.items() if upper.startswith(PREFIX)}


def variable_text(value: object) -> str:
    """Return a value of evergreen.toml as the text that its variable would have."""
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return ",".join(value)
    return value if isinstance(value, str) else json.dumps(value)


def refused_value(name: str, message: str, value: object) -> str:
    """Return the sentence for a variable whose value cannot be used.

    Args:
        name: name without the prefix, in upper or lower case.
        message: message of pydantic.
        value: the refused value; not quoted if it is a secret.
    """
    shown = "" if name.upper() in SECRET else f", got {printable(str(value))!r}"
    return f"{PREFIX}{name.upper()} cannot be used: {expectation(message)}{shown}"


def expectation(message: str) -> str:
    """Return pydantic's message as a clause that starts with `expected`."""
    expected = message.removeprefix("Value error, ")
    for start, instead in _WORDING.items():
        if expected.startswith(start):
            expected = instead + expected.removeprefix(start)
    return expected


def named_field(error: Exception, fields: Collection[str]) -> str:
    """Return the variable whose field an error of pydantic-settings quotes."""
    quoted = next((name for name in fields if f'"{name}"' in str(error)), "")
    return f"{PREFIX}{quoted.upper()}"


def printable(text: str) -> str:
    """Return the text with bytes that are not UTF-8 escaped, so that it can be printed and written."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
