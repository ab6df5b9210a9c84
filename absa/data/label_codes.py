"""Codes that files write for the labels: the default ones, and the user's own of section [data.labels].

```toml
[data.labels]        # in evergreen.toml: value in the file = label
-1 = "negative"
0 = "neutral"
1 = "positive"
```
"""

from collections.abc import Mapping
from typing import Any, Final

from absa.errors import InvalidDataError, PermanentError
from absa.task import SENTIMENTS

CONFIGURATION_FILE: Final = "evergreen.toml"
CONFIG_VARIABLE: Final = "EVERGREEN_CONFIG"
LABEL_CODES: Final = {name: number for number, name in enumerate(SENTIMENTS)}
DEFAULT_CODES: Final[Mapping[str, int]] = {**{str(number): number for number in LABEL_CODES.values()}, **LABEL_CODES}
_EXPECTED: Final = ", ".join(f"{number} or {name!r}" for name, number in LABEL_CODES.items())


def label_codes(configuration: Mapping[str, Any], *, name: str = CONFIGURATION_FILE) -> Mapping[str, int]:
    """Return the label of each value that files may write, by a configuration's section [data.labels]. Pure.

    Labels' names always count; with a section of its own only the section's numbers count.

    Raises:
        PermanentError: [data] has an unknown key, or a value is not a label.
    """
    data = configuration.get("data", {})
    if not isinstance(data, Mapping):
        raise PermanentError(f"data of {name} is a single value; expected a section [data.labels]")
    if unknown := sorted(set(data) - {"labels"}):
        raise PermanentError(f"[data] of {name} has the unknown key {unknown[0]!r}; expected labels")
    section = data.get("labels")
    if section is None:
        return DEFAULT_CODES
    if not isinstance(section, Mapping):
        raise PermanentError(f"data.labels of {name} is a single value; expected a section [data.labels]")
    return {**LABEL_CODES, **{normal_code(written): _label(written, label, name) for written, label in section.items()}}


def normal_code(written: str) -> str:
    """Return a value as codes are compared: without white space around it, in lower case, 1 for 1.0."""
    code = written.strip().lower()
    whole, point, fraction = code.partition(".")
    return whole if point and not fraction.strip("0") and whole.lstrip("+-").isdigit() else code


def check_coding(name: str, codes: Mapping[str, int], written: Mapping[str, int]) -> None:
    """Refuse a file whose labels are coded -1, 0, 1, which read as 0, 1, 2 would be other labels.

    Args:
        name: of the file.
        codes: label of each value that files may write.
        written: rows of each value of the file, at least of -1 and 2.

    Raises:
        InvalidDataError: a label is -1, none is 2, and -1 has no label.
    """
    if written.get("-1") and not written.get("2") and "-1" not in codes:
        raise InvalidDataError(
            f"{name} codes its labels as -1, 0, 1; expected {_EXPECTED}. Say so in evergreen.toml (in the home, or the "
            f"file that {CONFIG_VARIABLE} names): a section [data.labels] with "
            '-1 = "negative", 0 = "neutral", 1 = "positive"'
        )


def _label(written: str, label: Any, name: str) -> int:
    if isinstance(label, int) and not isinstance(label, bool) and label in LABEL_CODES.values():
        return label
    if isinstance(label, str) and label.strip().lower() in LABEL_CODES:
        return LABEL_CODES[label.strip().lower()]
    raise PermanentError(f"{written} = {label!r} in [data.labels] of {name} is not a label; expected {_EXPECTED}")
