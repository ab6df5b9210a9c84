"""Codes that files write for the labels: the default ones, and the user's own of section [data.labels].

```toml
[data.labels]        # in evergreen.toml: value in the file = label
-1 = "negative"
0 = "neutral"
1 = "positive"
```
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
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


def find_configuration(named: str | Path | None = None, home: Path | None = None) -> Path | None:
    """Return the named file, or evergreen.toml of the working folder or the home; None where there is none.

    Raises:
        PermanentError: the name is empty, or both folders have a file.
    """
    if named is not None:
        if not str(named).strip():
            raise PermanentError(f"{CONFIG_VARIABLE} is empty: name a file, or unset it")
        return Path(named)
    folders = [Path()] if home is None else [Path(), home]
    found = {file.resolve(): file for file in (folder / CONFIGURATION_FILE for folder in folders) if file.is_file()}
    if len(found) > 1:
        raise PermanentError(f"{' and '.join(map(str, found))} both exist: keep one, or name one as {CONFIG_VARIABLE}")
    return next(iter(found.values()), None)


def read_table(file: Path | None) -> dict[str, Any]:
    """Return the content of a TOML file; nothing of no file.

    Raises:
        PermanentError: it cannot be read, or is not TOML.
    """
    if file is None:
        return {}
    try:
        return tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise PermanentError(f"{file} ({CONFIG_VARIABLE}) cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PermanentError(f"{file} is not TOML: {error}") from None


def read_label_codes(named: str | Path | None = None, home: Path | None = None) -> Mapping[str, int]:
    """Return the codes of the configuration file, or the default ones.

    Args:
        named: the file that EVERGREEN_CONFIG names; None where the variable is not set.
        home: the home folder; None for a program that has none.

    Raises:
        PermanentError: see `find_configuration`, `read_table` and `label_codes`.
    """
    file = find_configuration(named, home)
    return label_codes(read_table(file), name=str(file))


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
