"""Checks of command-line arguments: numbers in a range, windows, files, and text that is UTF-8.

Typer accepts `nan`, `inf` and numbers of any size; these callbacks of options refuse numbers outside of a range.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import typer

from absa.errors import PermanentError
from absa.policies import LONGEST_S
from absa.records.schema import Window
from absa.variables import printable

_Check = Callable[[typer.CallbackParam, Any], Any]
_MOST_ROWS: Final = 1_000_000_000
_PICTURES: Final = (".svg", ".png")
_DAY_S: Final = 86_400.0


def number(low: float, high: float, *, above: bool = False, unit: str = "") -> _Check:
    """Return an option's callback that refuses numbers outside of a range.

    Args:
        low: smallest number.
        high: largest number.
        above: True if `low` itself is refused.
        unit: unit of the number, for the message.
    """
    start = f"above {low:,.10g}, up to" if above else f"from {low:,.10g} to"
    limits = f"{start} {high:,.10g}{f' {unit}' if unit else ''}"

    def check(parameter: typer.CallbackParam, value: Any) -> Any:
        for each in value if isinstance(value, list | tuple) else (value,):
            if each is None:
                continue
            inside = (low < each if above else low <= each) and each <= high
            if not inside or not math.isfinite(each):
                raise PermanentError(f"{_shown(parameter)}: expected a number {limits}, got {each:g}")
        return value

    return check


SECONDS: Final = number(0, LONGEST_S, above=True, unit="seconds")
SECONDS_OR_NONE: Final = number(0, LONGEST_S, unit="seconds")
MINUTES: Final = number(0, LONGEST_S / 60.0, above=True, unit="minutes")
DAYS: Final = number(0, LONGEST_S / _DAY_S, above=True, unit="days")
MILLISECONDS: Final = number(0, 1e9, above=True, unit="milliseconds")
MILLISECONDS_OR_NONE: Final = number(0, 1e9, unit="milliseconds")
RATE: Final = number(0, 1e6, above=True, unit="requests/s")
SHARE: Final = number(0, 1)
SHARE_ABOVE_0: Final = number(0, 1, above=True)
ROWS: Final = number(1, _MOST_ROWS, unit="rows")
SEED: Final = number(0, 2**32 - 1)
EPOCHS: Final = number(0, 10_000, above=True, unit="passes")
TASK_RATE: Final = number(1, 1e6, unit="requests/s")
START_S: Final = number(0, 3600, unit="seconds")
TASKS: Final = number(1, 10_000, unit="tasks")
TRAININGS: Final = number(0, 1e6, unit="trainings a month")
AUDIT: Final = number(0.05, 1)
LOAD: Final = number(0.01, 1)
WORKERS_OR_NONE: Final = number(0, 1024, unit="processes")
WORKERS: Final = number(1, 1024, unit="processes")


def given_text(parameter: typer.CallbackParam, value: str | None) -> str | None:
    """Check, as a callback, that an option or argument is not an empty text."""
    if value is not None and not value.strip():
        raise PermanentError(f"{_shown(parameter)}: expected a text, got an empty one")
    return value


def existing_file(parameter: typer.CallbackParam, value: Path | None) -> Path | None:
    """Check, as a callback, that a file exists and can be read."""
    if value is None:
        return None
    name = _shown(parameter)
    if value.is_dir():
        raise PermanentError(f"{name}: expected a file, got the folder {value}")
    try:
        value.open("rb").close()
    except OSError as error:
        raise PermanentError(f"{name}: {value} cannot be read: {error.strerror}") from None
    return value


def new_file(parameter: typer.CallbackParam, value: Path | None) -> Path | None:
    """Check, as a callback, that a file can be written, before the work starts. A command replaces an existing file."""
    if value is None:
        return None
    name = _shown(parameter)
    if value.is_dir() or not value.name:
        raise PermanentError(f"{name}: expected a file to write, got the folder {value}")
    if not value.absolute().parent.is_dir():
        raise PermanentError(f"{name}: the folder {value.absolute().parent} does not exist: make it first")
    return value


def new_picture(parameter: typer.CallbackParam, value: Path | None) -> Path | None:
    """Check, as a callback, that a .svg or .png picture can be written."""
    checked = new_file(parameter, value)
    if checked is not None and checked.suffix.lower() not in _PICTURES:
        raise PermanentError(f"{_shown(parameter)}: expected a name that ends in .svg or .png, got {checked}")
    return checked


def window_of(option: str, key: str) -> Window:
    """Return the window that a key names.

    Raises:
        PermanentError: the text is not a key, or the window does not end after its start.
    """
    try:
        return Window.parse(key)
    except ValueError:
        raise PermanentError(
            f"{option}: expected <start>_<end> such as 20261130T120000.000000Z_20261130T130000.000000Z, got {key!r}"
        ) from None


def check_text(arguments: Sequence[str]) -> None:
    """Check that every argument is UTF-8 text.

    Raises:
        PermanentError: an argument has other bytes, for example because the terminal uses another encoding.
    """
    for position, argument in enumerate(arguments, start=1):
        if printable(argument) != argument:
            raise PermanentError(
                f"argument {position}, '{printable(argument)}', is not UTF-8 text: use a UTF-8 terminal, or rename "
                "the file"
            )


def _shown(parameter: typer.CallbackParam) -> str:
    """Return the name of an option or argument as the user writes it."""
    longest = max(parameter.opts, key=len)
    return longest if longest.startswith("-") else longest.upper()
