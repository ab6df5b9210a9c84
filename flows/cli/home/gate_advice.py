"""Advice for a version on HOLD: the change that lets each holding check pass. Pure."""

from collections.abc import Mapping
from typing import Any, Final

_ADVICE: Final[Mapping[str, str]] = {
    "better on recent rows": "label more recent traffic: `evergreen labels export`, then `labels import` and `train`",
    "better than the baseline": "ingest more labelled rows, then train again",
    "not worse on established rows": "train with a longer --budget, or ingest more established rows",
    "not below TF-IDF": "train with a longer --budget or another --encoder",
    "slice ": "ingest more labelled rows of this slice",
    "behaviour ": "ingest more labelled rows of this kind",
    "own tests": "ingest labelled rows like the tests that fail",
    "gain without source ": "import labels of a second source: `evergreen labels export` includes a random audit",
    "quarantine": "correct the refused rows (refused.csv in the home) and ingest them again",
    "label balance": "ingest more rows of the rarest label",
    "calibration": "ingest more labelled rows: the validation split sets the temperature",
}
_OTHERWISE: Final = "read the gate's report of the version, in MLflow"


def holding_checks(evidence: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return check, sentence and advice of each check that holds.

    Args:
        evidence: evidence of the ledger record that registered the version.
    """
    held = [check for check in evidence.get("checks", ()) if check.get("status") == "hold"]
    return [
        {"check": check["name"], "sentence": check["sentence"], "advice": advice_for(check["name"])} for check in held
    ]


def advice_for(name: str) -> str:
    """Return the advice for a check, by its name."""
    found = (advice for start, advice in _ADVICE.items() if name.startswith(start))
    return next(found, _OTHERWISE)
