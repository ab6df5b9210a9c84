"""Configuration file evergreen.toml: search for the file that counts, and its content."""

import tomllib
from pathlib import Path
from typing import Any, Final

from absa.data.mapping import CONFIG_VARIABLE, CONFIGURATION_FILE, DataMapping, data_mapping
from absa.errors import PermanentError

SETTINGS_FILE: Final = "settings.env"  # in homes of release 0.1
DEMO_MARK: Final = "# written by the demo"  # first line of a file that the demo may replace
DEMO_STATE: Final = "demo.json"
REFUSED_ROWS: Final = "refused.csv"  # in the home: bad rows of the last ingest


def find_configuration(named: str | Path | None = None, home: Path | None = None) -> Path | None:
    """Return the named file, or evergreen.toml of the working folder or the home; None if there is no such file.

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
    """Return the content of a TOML file; empty if the file is None.

    Raises:
        PermanentError: the file cannot be read, or is not TOML.
    """
    if file is None:
        return {}
    try:
        return tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise PermanentError(f"{file} ({CONFIG_VARIABLE}) cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PermanentError(f"{file} is not TOML: {error}") from None


def read_mapping(named: str | Path | None = None, home: Path | None = None) -> DataMapping:
    """Return the mapping of the configuration file, or the default one.

    Args:
        named: the file that EVERGREEN_CONFIG names; None if the variable is not set.
        home: the home folder; None for a program without a home.

    Raises:
        PermanentError: see `find_configuration`, `read_table` and `data_mapping`.
    """
    file = find_configuration(named, home)
    return data_mapping(read_table(file), name=str(file or CONFIGURATION_FILE))


def is_marked(file: Path) -> bool:
    """Return True if the demo wrote the file, and may replace it."""
    return file.is_file() and file.read_text(encoding="utf-8", errors="replace").startswith(DEMO_MARK)


def is_demo_home(home: Path) -> bool:
    """Return True if a demo was started in the home folder."""
    files = (home / SETTINGS_FILE, home / CONFIGURATION_FILE)
    return (home / DEMO_STATE).is_file() or any(is_marked(file) for file in files)
