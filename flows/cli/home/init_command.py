"""`evergreen init`: evergreen.toml from a data file."""

import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from absa.config_file import DEMO_MARK
from absa.data.mapping import CONFIGURATION_FILE, FILE_COLUMNS
from absa.errors import PermanentError
from absa.records.files import write_whole
from absa.records.schema import utc_now
from flows.platform.services import build_services, is_there
from flows.platform.settings import Settings

if TYPE_CHECKING:
    from absa.data.recognition.file_sample import FileSample
    from absa.data.recognition.recognise import Recognition

_BLOCK: Final = re.compile(r"(?m)^(?=[ \t]*\[)")
_OURS: Final = re.compile(r"""^[ \t]*\[\s*["']?(?:task|data)["']?\s*[.\]]""")
_NOTE: Final = re.compile(rf"(?m)^(?:# `evergreen init` |{DEMO_MARK}).*\n")


def init_home(settings: Settings, file: Path, *, name: str | None, force: bool) -> Iterator[str]:
    """Recognise the task of a data file and write it to evergreen.toml; yield lines for the user.

    Args:
        settings: settings of the home.
        file: labelled rows.
        name: name of the task; None: the file's name.
        force: True to replace the sections [task] and [data] of an existing file.

    Raises:
        InvalidDataError: the file cannot be read, or no column looks like texts or labels.
        PermanentError: evergreen.toml exists, or the home has another task.
    """
    from absa.data.recognition.file_sample import read_sample
    from absa.data.recognition.recognise import recognise, recognised_lines

    place = configuration_place(settings)
    if place.exists() and not force:
        raise PermanentError(f"{place} exists: --force replaces its sections [task] and [data], and keeps the others")
    sample = read_sample(file)
    services = build_services(settings, keep=False) if is_there(settings) else None
    known = services.home_task() if services else None
    recognition = recognise(sample.rows, file.name, name=name or file.stem, known=known)
    if services is not None:
        services.check_task(recognition.task, file)
    yield from recognised_lines(recognition)
    yield from _usable(sample, recognition)
    for line in recognition.preview(sample.rows):
        yield f"    {line}"
    old = place.read_text(encoding="utf-8-sig") if place.exists() else ""
    text = with_sections(old, recognition.sections(str(file.absolute())), name=str(place))
    place.parent.mkdir(parents=True, exist_ok=True)
    write_whole(place, text)
    yield f"wrote {place}"


def configuration_place(settings: Settings) -> Path:
    """Return the path of the configuration: the file in use, else in an existing home, else in the working folder."""
    named = settings.config or os.environ.get("EVERGREEN_CONFIG")
    if named:
        return Path(named)
    in_home = settings.root.is_dir() or "home" in settings.model_fields_set
    return settings.root / CONFIGURATION_FILE if in_home else Path(CONFIGURATION_FILE).absolute()


def with_sections(old: str, sections: str, *, name: str = CONFIGURATION_FILE) -> str:
    """Return a configuration with new sections [task] and [data]; other sections stay. Pure.

    Raises:
        PermanentError: the old text cannot be divided into sections.
    """
    kept = "".join(block for block in _BLOCK.split(_NOTE.sub("", old)) if not _OURS.match(block)).rstrip()
    text = f"{kept}\n\n{sections}" if kept else sections
    try:
        before, after = (tomllib.loads(each) for each in (old, text))
    except tomllib.TOMLDecodeError:
        before, after = {}, {"other": 0}
    if any(before.get(key) != after.get(key) for key in {*before, *after} - {"task", "data"}):
        raise PermanentError(f"{name} cannot be changed in place: remove its sections [task] and [data] by hand first")
    return text


def _usable(sample: "FileSample", recognition: "Recognition") -> Iterator[str]:
    """Yield lines about the number of sampled rows that ingest would accept."""
    import polars as pl

    from absa.data.read import validate

    names = {"aspect" if key == "topic" else key: column for key, column in recognition.columns.items()}
    columns = [pl.col(names[c]).alias(c) if c in names else pl.lit(None, pl.String).alias(c) for c in FILE_COLUMNS]
    raw = sample.rows.select(row=pl.int_range(2, 2 + pl.len()), reason=pl.lit(None, pl.String)).hstack(
        sample.rows.select(columns)
    )
    valid, bad = validate(raw, uri="", source="", observed_at=utc_now(), mapping=recognition.mapping)
    rows = f"{'the first ' if sample.more else ''}{sample.rows.height:,} rows"
    reasons = "".join(f", {count:,} {reason}" for reason, count in sorted(bad.group_by("reason").len().iter_rows()))
    yield f"{valid.height:,} of {rows} can be used{reasons}"
