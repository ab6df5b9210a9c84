"""Profiles: named sets of policies by section of evergreen.toml, and a table of settings."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

Profile = Mapping[str, Mapping[str, Any]]
SETTINGS: Final = "settings"
_DAY_S: Final = 86_400.0

PROFILES: Final[Mapping[str, Profile]] = MappingProxyType(
    {
        "default": {},
        # for a laptop and some hundred requests per day
        "small": {
            SETTINGS: {"workers": 1},
            "gate": {"min_recent_rows": 50, "min_slice_rows": 50},
            "staleness": {"reference_rows": 300, "embed_rows": 200},
            "experiment": {
                "ramp": [0.1, 0.5],
                "min_exposure": 200,
                "shadow_s": 10 * _DAY_S,  # long enough for differing answers, whose labels are requested and decide
                "step_s": _DAY_S,
                "max_duration_s": 28 * _DAY_S,
            },
            "router": {"cache_entries": 5_000},
        },
        # an operator approves, every step takes a whole day, alarms are rare
        "production": {
            SETTINGS: {"approval": True},
            "staleness": {"false_alarms_a_month": 1.0, "max_age_s": 90 * _DAY_S},
            "experiment": {"shadow_s": _DAY_S, "step_s": _DAY_S, "min_units": 100},
        },
        # for `make demo`: the whole loop in minutes
        "demo": {
            SETTINGS: {"schedule_monitor": False},
            "training": {"replay": 0.25, "warm_layers": 3},
            "gate": {"behaviour_cases": 30, "behaviour_margin": 1.0, "max_int8_f1_loss": 0.03},
            "staleness": {"embed_rows": 200, "cooldown_s": 0.0, "reference_rows": 300, "cycle": "none"},
            "experiment": {
                "ramp": [0.25, 0.5],
                "step_s": 4.0,
                "shadow_s": 4.0,
                "min_exposure": 150,
                "max_duration_s": 120.0,
            },
            "router": {"ship_interval_s": 1.0},
        },
        # for `make demo SCALE=tiny` and end-to-end tests: a tiny student, the loop in a minute
        "test": {
            SETTINGS: {"schedule_monitor": False},
            "training": {
                "layers": 1,
                "hidden": 128,
                "learning_rate": 3e-3,
                "batch_tokens": 512,
                "replay": 1.0,
            },
            "gate": {
                "min_recent_rows": 60,
                "min_slice_rows": 1000,
                "established_margin": 0.05,
                "behaviour_cases": 10,
                "behaviour_margin": 1.0,
                "max_int8_f1_loss": 0.1,
            },
            "staleness": {"embed_rows": 0, "cooldown_s": 0.0, "reference_rows": 300, "cycle": "none"},
            "experiment": {"ramp": [0.5], "step_s": 2.0, "shadow_s": 1.0, "min_exposure": 100, "max_duration_s": 60.0},
            "router": {"ship_interval_s": 0.5},
        },
    }
)


def differences(profile: str) -> Iterator[str]:
    """Yield the values that a profile changes, such as `staleness.cooldown_s=0`; settings have no section."""
    for section, table in PROFILES[profile].items():
        for key, value in table.items():
            yield f"{'' if section == SETTINGS else f'{section}.'}{key}={value}"
