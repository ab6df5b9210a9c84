"""Settings of homes of earlier releases: HOME/settings.env."""

from io import StringIO
from pathlib import Path

from dotenv import dotenv_values

from absa.config_file import DEMO_MARK, SETTINGS_FILE
from absa.errors import PermanentError
from absa.variables import PREFIX, REMOVED


def read_settings_file(home: Path) -> dict[str, str]:
    """Return what HOME/settings.env of an earlier release sets; nothing where there is no such file.

    Raises:
        PermanentError: it is a folder, or not UTF-8 text.
    """
    file = home / SETTINGS_FILE
    if file.is_dir():
        raise PermanentError(f"{file} is a folder: expected a text file with lines such as EVERGREEN_WORKERS=2")
    try:
        text = file.read_text(encoding="utf-8") if file.exists() else ""
    except UnicodeDecodeError:
        raise PermanentError(f"{file} is not UTF-8 text: save it as UTF-8") from None
    found = {name: value for name, value in dotenv_values(stream=StringIO(text)).items() if value is not None}
    if text.startswith(DEMO_MARK) and "EVERGREEN_PROFILE" not in found:  # by a release without profiles
        profile = "test" if text.startswith(f"{DEMO_MARK} (tiny)") else "demo"
        found = {name: value for name, value in found.items() if name.removeprefix(PREFIX) not in REMOVED}
        found["EVERGREEN_PROFILE"] = profile
    return found
