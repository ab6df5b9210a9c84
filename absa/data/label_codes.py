"""Codes that files write for the labels: names and numbers, and the user's own of section [data.labels].

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
from absa.task import ABSA, TaskSpec

CONFIGURATION_FILE: Final = "evergreen.toml"
CONFIG_VARIABLE: Final = "EVERGREEN_CONFIG"


def default_codes(task: TaskSpec) -> Mapping[str, int]:
    """Return the number of each label by its number and its name, as files write them.

    Numbers do not count where a label is named by a number.
    """
    names = _names(task)
    numbers = {str(number): number for number in range(task.n_labels)}
    return names if any(name.isdigit() for name in names) else numbers | names


def codes_of_section(section: Any, task: TaskSpec, *, name: str = CONFIGURATION_FILE) -> Mapping[str, int]:
    """Return the label of each value that files may write, by the section [data.labels]. Pure.

    Labels' names always count; with a section of its own only the section's numbers count.

    Raises:
        PermanentError: it is not a section, or a value is not a label of the task.
    """
    if not isinstance(section, Mapping):
        raise PermanentError(f"data.labels of {name} is a single value; expected a section [data.labels]")
    return _names(task) | {
        normal_code(written): _label(written, label, task, name) for written, label in section.items()
    }


def _names(task: TaskSpec) -> dict[str, int]:
    return {normal_code(label): number for number, label in enumerate(task.labels)}


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


def normal_code(written: str) -> str:
    """Return a value as codes are compared: without white space around it, in lower case, 1 for 1.0."""
    code = written.strip().lower()
    whole, point, fraction = code.partition(".")
    return whole if point and not fraction.strip("0") and whole.lstrip("+-").isdigit() else code


def check_coding(name: str, codes: Mapping[str, int], written: Mapping[str, int]) -> None:
    """Refuse a file whose sentiments are coded -1, 0, 1, which read as 0, 1, 2 would be other labels.

    Args:
        name: of the file.
        codes: label of each value that files may write; codes of other labels than sentiments are left alone.
        written: rows of each value of the file, at least of -1 and 2.

    Raises:
        InvalidDataError: a label is -1, none is 2, and -1 has no label.
    """
    sentiments = _names(ABSA).items() <= codes.items()
    if sentiments and written.get("-1") and not written.get("2") and "-1" not in codes:
        raise InvalidDataError(
            f"{name} codes its labels as -1, 0, 1; expected {_expected(ABSA)}. Say so in evergreen.toml (in the home, "
            f"or the file that {CONFIG_VARIABLE} names): a section [data.labels] with "
            '-1 = "negative", 0 = "neutral", 1 = "positive"'
        )


def _label(written: str, label: Any, task: TaskSpec, name: str) -> int:
    number = None if isinstance(label, float) else task.number(label)
    if number is None:
        raise PermanentError(
            f"{written} = {label!r} in [data.labels] of {name} is not a label; expected {_expected(task)}"
        )
    return number


def _expected(task: TaskSpec) -> str:
    return ", ".join(f"{number} or {label!r}" for number, label in enumerate(task.labels))


DEFAULT_CODES: Final[Mapping[str, int]] = default_codes(ABSA)
