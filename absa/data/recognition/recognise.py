"""Recognition of a task in the rows of a file: columns by name and content, labels, dates and the input form. Pure."""

import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final

import polars as pl

from absa.data.files.times import times
from absa.data.mapping import CONFIGURATION_FILE, DataMapping, data_mapping
from absa.data.recognition.column_profile import ColumnProfile, profiles_of
from absa.data.recognition.dates import DateForm
from absa.data.recognition.label_values import LabelValues
from absa.errors import InvalidDataError
from absa.inference.aspect_span import has_aspect
from absa.task import ABSA, MAX_LABELS, InputForm, TaskSpec, listed

SPAN_SHARE: Final = 0.95  # share of phrases that are in their texts: from it on they are aspects, below it topics
_LIKELY_SPANS: Final = 0.8  # for a column whose name gives no hint
_SPAN_ROWS: Final = 5_000
_HEAD: Final = 0.7  # score of a name whose main word fits a role
_SOME: Final = 0.5
_FEWEST_ROWS: Final = 20  # with at most so many rows, labels need not repeat
_REPEATED: Final = 1.5  # mean number of rows per value in a column of units
_MOST_UNREAD_DATES: Final = 0.05
_SEGMENTS: Final = 50
_SEGMENT_CHARACTERS: Final = 60
_PREVIEWED: Final = 5
_SHOWN_CHARACTERS: Final = 70
_NAMED: Final = 12
_DEFAULT_CODES: Final = ("0", "1", "2")


@dataclass(frozen=True, kw_only=True)
class Recognition:
    """Task and form of a file.

    Attributes:
        file: name of the file.
        task: recognised task.
        columns: column of the file by key of section [data].
        values: label of each value that is not the name of a label.
        time_format: form of observed_at; None for ISO 8601.
        sentences: sentences about the recognised parts, by key.
        unused: columns without a role.
    """

    file: str
    task: TaskSpec
    columns: Mapping[str, str]
    values: Mapping[str, str] = field(default_factory=dict)
    time_format: str | None = None
    sentences: Mapping[str, str] = field(default_factory=dict)
    unused: tuple[str, ...] = ()

    @cached_property
    def mapping(self) -> DataMapping:
        """Mapping that results from the sections."""
        return data_mapping(tomllib.loads(self.sections()))

    def sections(self, path: str | None = None) -> str:
        """Return the sections [task] and [data] of evergreen.toml; the default task needs no section [task].

        `path` is the file of a first training; None: no file.
        """
        lines = [f"# `evergreen init` recognised this in {self.file}; labels may be appended, in this order they stay."]
        if not self.task.is_default:
            lines += ["[task]", f"name = {_quoted(self.task.name)}", f"input = {_quoted(self.task.input)}"]
            lines.append(f"labels = {_quoted(self.task.labels)}")
            if self.task.evaluated != self.task.labels:
                lines.append(f"evaluated = {_quoted(self.task.evaluated)}")
            lines.append("")
        lines.append("[data]")
        if path is not None:
            lines.append(f"file = {_quoted(path)}")
        for key, column in self.columns.items():
            value = _quoted(column)
            if key == "observed_at" and self.time_format is not None:
                value = f"{{column = {value}, format = {_quoted(self.time_format)}}}"
            lines.append(f"{key} = {value}")
        if self.values:
            lines += [
                "",
                "[data.labels]",
                *(f"{_quoted(value)} = {_quoted(self.values[value])}" for value in self.values),
            ]
        return "\n".join(lines) + "\n"

    def preview(self, frame: pl.DataFrame) -> list[str]:
        """Return lines with the first five rows that have a text and a label, as ingest will read them."""
        label = self.columns["label"]
        read = frame.select(pl.col(name).str.strip_chars() for name in self.columns.values())
        whole = read.filter(pl.all_horizontal((pl.col(self.columns[key]) != "") for key in ("text", "label")))
        lines = []
        for row in whole.head(_PREVIEWED).iter_rows(named=True):
            number = self.mapping.number(row[label])
            cells = [self.task.labels[number] if number is not None else f"no label ({row[label]})"]
            for key, column in self.columns.items():
                if key not in ("text", "label") and row[column]:
                    cells.append(f"{key} {self._day(row[column]) if key == 'observed_at' else row[column]}")
            lines.append(f"{_cut(row[self.columns['text']])}  ->  {' | '.join(cells)}")
        return lines

    def _day(self, written: str) -> str:
        read = pl.DataFrame({"at": [written]}).select(times(pl.col("at"), self.time_format)).item()
        return written if read is None else f"{read:%Y-%m-%d}"


def recognise(frame: pl.DataFrame, file: str, *, name: str, known: TaskSpec | None = None) -> Recognition:
    """Return the task and the form of a file, recognised from its rows. Pure.

    Args:
        frame: rows, every column as text; a sample is enough if it has all labels.
        file: name of the file, for messages.
        name: name of the task if it is not the default task; any characters are accepted.
        known: task of the home; its labels come first, and new labels of the file are appended. None for a new home.

    Raises:
        InvalidDataError: no column looks like texts or like labels; the message names the columns.
    """
    profiles = profiles_of(frame)
    shown = ", ".join(profile.name for profile in profiles) or "none with a value"
    text = _text(profiles)
    if text is None:
        raise InvalidDataError(f"{file} has no column that looks like texts; its columns are {shown}. {_BY_HAND}")
    label = _label([profile for profile in profiles if profile is not text])
    if label is None or label.labels is None:
        raise InvalidDataError(
            f"{file} has no column that looks like labels, 2 to 127 short values that repeat; its columns are {shown}. "
            f"{_BY_HAND}"
        )
    rest = [profile for profile in profiles if profile not in (text, label)]
    phrase, spans = _phrase(frame, text, [profile for profile in rest if profile.dates is None])
    form: InputForm = "text" if phrase is None else ("text+aspect" if spans >= SPAN_SHARE else "text+topic")
    rest = [profile for profile in rest if profile is not phrase]
    time = _time(rest)
    rest = [profile for profile in rest if profile is not time]
    unit = _unit(rest)
    segment = _segment([profile for profile in rest if profile is not unit])
    labels = _codes_of_ours(label.labels) if form == "text+aspect" else label.labels
    task = _task(name, form, labels, known)
    roles = {"text": text, str(task.phrase): phrase, "label": label, "observed_at": time, "unit": unit}
    used = {key: profile for key, profile in (roles | {"segment": segment}).items() if profile is not None}
    date = time.dates if time is not None else None
    return Recognition(
        file=file,
        task=task,
        columns={key: profile.name for key, profile in used.items()},
        values=labels.values,
        time_format=date.form if date is not None else None,
        sentences={key: _sentence(key, profile, labels, spans, frame.height) for key, profile in used.items()},
        unused=tuple(profile.name for profile in profiles if profile not in used.values()),
    )


_BY_HAND: Final = f"Name them in section [data] of {CONFIGURATION_FILE} (docs/how_to_data.md)"


def task_name(file: str) -> str:
    """Return a name of a task from the name of its file: lower-case letters, digits, - and _."""
    stem = file.rsplit("/", 1)[-1].rsplit("\\", 1)[-1].split(".", maxsplit=1)[0]
    return re.sub(r"[^a-z0-9_-]+", "_", stem.casefold()).strip("_-")[:63] or "task"


def _text(profiles: Sequence[ColumnProfile]) -> ColumnProfile | None:
    longest = max((profile.characters for profile in profiles), default=0.0)

    def fit(profile: ColumnProfile) -> float:
        length, variety = profile.characters / longest, profile.distinct / profile.rows
        return profile.score("text") - 0.8 * profile.other_score("text") + length + 0.5 * variety

    possible = [p for p in profiles if p.numeric < _SOME and p.codes < _SOME and p.dates is None]
    return max(possible, key=fit, default=None)


def _label(profiles: Sequence[ColumnProfile]) -> ColumnProfile | None:
    def fit(profile: ColumnProfile) -> float:
        assert profile.labels is not None
        by_name = profile.score("label") + 0.3 * profile.score("aspect") - 0.6 * profile.score("segment")
        by_value = 1.0 * profile.labels.are_sentiments + 0.7 * profile.labels.are_answers
        by_value -= 0.3 * len(profile.labels.labels) / MAX_LABELS
        return by_name + by_value - 0.5 * profile.numeric * (profile.score("label") == 0)

    def possible(profile: ColumnProfile) -> bool:
        if profile.labels is None or profile.dates is not None:
            return False
        if profile.score("unit") >= _HEAD > profile.score("label") or (profile.named_id and profile.score("label") < 1):
            return False
        return profile.rows <= _FEWEST_ROWS or profile.distinct <= profile.rows / 2

    return max(filter(possible, profiles), key=fit, default=None)


def _phrase(
    frame: pl.DataFrame, text: ColumnProfile, profiles: Sequence[ColumnProfile]
) -> tuple[ColumnProfile | None, float]:
    """Return the column of aspects or topics, or None, and the share of phrases that are in their texts."""
    possible = [p for p in profiles if p.numeric < _SOME and p.codes < _SOME and p.characters < text.characters]
    named = [profile for profile in possible if profile.score("aspect") >= _HEAD]
    if named:
        best = max(named, key=lambda profile: (profile.score("aspect"), _span_share(frame, text.name, profile.name)))
        return best, _span_share(frame, text.name, best.name)
    for profile in possible:
        unnamed = profile.other_score("aspect") < _HEAD and profile.characters >= 3 and profile.distinct >= 3
        if unnamed and (share := _span_share(frame, text.name, profile.name)) >= _LIKELY_SPANS:
            return profile, share
    return None, 0.0


def _span_share(frame: pl.DataFrame, text: str, phrase: str) -> float:
    """Return the share of phrases that are in their texts, over rows that have both."""
    both = frame.select(text=pl.col(text).str.strip_chars(), phrase=pl.col(phrase).str.strip_chars())
    both = both.filter((pl.col("text") != "") & (pl.col("phrase") != "")).head(_SPAN_ROWS)
    if both.is_empty():
        return 0.0
    return sum(has_aspect(*row) for row in both.iter_rows()) / both.height


def _time(profiles: Sequence[ColumnProfile]) -> ColumnProfile | None:
    dated = [p for p in profiles if p.dates is not None and p.dates.share >= 1 - _MOST_UNREAD_DATES]
    return max(dated, key=lambda profile: profile.score("observed_at"), default=None)


def _unit(profiles: Sequence[ColumnProfile]) -> ColumnProfile | None:
    def possible(profile: ColumnProfile) -> bool:
        repeats = profile.rows / profile.distinct >= _REPEATED
        if profile.dates is not None or profile.distinct < 2:
            return False
        return profile.score("unit") >= _HEAD or (profile.codes >= 1 - _MOST_UNREAD_DATES and repeats)

    return max(filter(possible, profiles), key=lambda profile: (profile.score("unit"), profile.distinct), default=None)


def _segment(profiles: Sequence[ColumnProfile]) -> ColumnProfile | None:
    named = [p for p in profiles if p.score("segment") >= _SOME and p.dates is None and not p.named_id]
    few = [p for p in named if 1 < p.distinct <= _SEGMENTS and p.longest <= _SEGMENT_CHARACTERS]
    return max(few, key=lambda profile: profile.score("segment"), default=None)


def _codes_of_ours(labels: LabelValues) -> LabelValues:
    """Return the labels with 0, 1 and 2, in a file with aspects, as codes of the default task."""
    if not {"2"} <= set(labels.labels) <= set(_DEFAULT_CODES):
        return labels
    rows = {label: labels.rows.get(code, 0) for label, code in zip(ABSA.labels, _DEFAULT_CODES, strict=True)}
    return LabelValues(labels=ABSA.labels, values={}, rows=rows, rare=labels.rare)


def _task(name: str, form: InputForm, labels: LabelValues, known: TaskSpec | None) -> TaskSpec:
    if labels.are_sentiments and form == ABSA.input:
        return ABSA
    if known is not None and known.input == form:
        new = [label for label in labels.labels if known.number(label) is None]
        evaluated = () if known.evaluated == known.labels else known.evaluated
        return replace(known, labels=(*known.labels, *new), evaluated=evaluated)
    evaluated = ABSA.evaluated if labels.are_sentiments else ()
    return TaskSpec(name=task_name(name), input=form, labels=labels.labels, evaluated=evaluated)


def _sentence(key: str, profile: ColumnProfile, labels: LabelValues, spans: float, rows: int) -> str:
    parts = [profile.name]
    if key == "label":
        counts = [f"{label} {rows_of:,}" for label, rows_of in labels.rows.items()]
        more = [f"{len(counts) - _NAMED} more"] if len(counts) > _NAMED else []
        parts.append(": " + ", ".join([*counts[:_NAMED], *more]))
        if labels.rare:
            named = ", ".join(map(repr, labels.rare[:_NAMED]))
            parts.append(f"; left out as rare: {named} (name them in [data.labels], or append them to labels)")
    elif key in ("aspect", "topic"):
        parts.append(f": {profile.distinct:,} different, {spans:.0%} in their texts")
    elif key == "observed_at" and profile.dates is not None:
        parts.append(f": {_date_sentence(profile.dates)}")
    elif key == "unit":
        parts.append(f": {profile.distinct:,} different")
    elif key == "segment":
        parts.append(": " + listed(sorted(profile.values.unique().to_list())[:_NAMED]))
    empty = rows - profile.rows
    return "".join(parts) + (f"; {empty:,} of {rows:,} rows have none" if empty else "")


def _date_sentence(date: DateForm) -> str:
    days = f"{date.order}, from {date.first:%Y-%m-%d} to {date.last:%Y-%m-%d}"
    if not date.ambiguous:
        return days
    return f"{days}; day and month could be exchanged: change format in {CONFIGURATION_FILE} if they are"


def _quoted(value: str | Sequence[str]) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN_CHARACTERS else f"{line[: _SHOWN_CHARACTERS - 3]}..."


def recognised_lines(recognition: Recognition) -> Iterator[str]:
    """Yield one line per recognised key, for the user."""
    task = recognition.task
    yield f"task {task.name}: {task.input}; labels {', '.join(task.labels[:_NAMED])}; f1 is the {task.metric}"
    for key, sentence in recognition.sentences.items():
        yield f"  {key:<12} {sentence}"
    if recognition.unused:
        yield f"  {'not used':<12} {', '.join(recognition.unused)}"
