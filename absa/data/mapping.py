"""Mapping of data files to the task: the column of each field, and the label of each written value.

```toml
[data]                                   # in evergreen.toml; case of column names is ignored
text = "Feedback"
label = "Category"
observed_at = {column = "Created", format = "%d/%m/%Y"}
[data.labels]                            # value in the file = label
"Bug report" = "bug"
```
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from difflib import get_close_matches
from functools import cached_property
from typing import Any, Final

from absa.errors import InvalidDataError, PermanentError
from absa.sinks import log_line
from absa.task import ABSA, TaskSpec, listed

CONFIGURATION_FILE: Final = "evergreen.toml"
CONFIG_VARIABLE: Final = "EVERGREEN_CONFIG"
FILE_COLUMNS: Final = ("text", "aspect", "label", "segment", "observed_at", "source", "unit")
"""Columns that are read from files, by their names in records."""
_TOPIC: Final = "topic"  # another name of the column aspect in files
_DATA_KEYS: Final = ("text", "aspect", _TOPIC, "label", "segment", "observed_at", "source", "unit", "labels", "file")
_TASK_KEYS: Final = ("name", "input", "labels", "evaluated")
_REQUIRED: Final = ("name", "input", "labels")
_NAMED: Final = 12
_NAME_CHARACTERS: Final = 40  # a longer name may be a text, if the file has no header


@dataclass(frozen=True, kw_only=True)
class DataMapping:
    """Form of the files of a home.

    Args:
        task: task of the rows.
        columns: name in files by column of records; a column that is not listed has its own name.
        codes: label of each value that files may write, in the form of `normal_code`; empty: the names and
            numbers of the task's labels.
        time_format: form of observed_at, in the codes of `strptime`; None: ISO 8601.
        file: data file of a first training, if nothing was ingested; None: no file.
        where: the configuration file, for messages.
    """

    task: TaskSpec = ABSA
    columns: Mapping[str, str] = field(default_factory=dict)
    codes: Mapping[str, int] = field(default_factory=dict)
    time_format: str | None = None
    file: str | None = None
    where: str = CONFIGURATION_FILE

    def __post_init__(self) -> None:
        if not self.codes:
            object.__setattr__(self, "codes", default_codes(self.task))

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """Columns that the model reads: text, and aspect for tasks with a phrase."""
        return ("text",) if self.task.phrase is None else ("text", "aspect")

    def required(self, *, label: bool) -> tuple[str, ...]:
        """Return the columns that every file must have."""
        return (*self.inputs, "label") if label else self.inputs

    def number(self, written: str | None) -> int | None:
        """Return the label of a value of a file; None for any other value."""
        return None if written is None else self.codes.get(normal_code(written))

    def names(self, column: str) -> tuple[str, ...]:
        """Return the folded names of a column in files, the preferred first; empty if the task has no such column."""
        return self._names.get(column, ())

    @cached_property
    def known(self) -> frozenset[str]:
        """Names of all columns in files, folded."""
        return frozenset(name for names in self._names.values() for name in names)

    @cached_property
    def _names(self) -> dict[str, tuple[str, ...]]:
        mapped = {column: folded(name) for column, name in self.columns.items()}
        names = {}
        for column in FILE_COLUMNS:
            if column == "aspect" and self.task.phrase is None:
                continue
            own = (_TOPIC, column) if column == "aspect" and self.task.phrase == _TOPIC else (column,)
            free = [name for name in own if name not in mapped.values()]
            names[column] = tuple(dict.fromkeys((*([mapped[column]] if column in mapped else []), *free)))
        return names

    def shown(self, column: str) -> str:
        """Return the name of a column as the user writes it."""
        if column in self.columns:
            return self.columns[column]
        return self.task.phrase or column if column == "aspect" else column

    def choose(self, header: Iterable[str], file: str, wanted: Iterable[str]) -> dict[str, str]:
        """Return the names in the file of those `FILE_COLUMNS` that the file has.

        Args:
            header: names of the file's columns.
            file: name of the file, for messages.
            wanted: columns that the file must have.

        Raises:
            InvalidDataError: two columns have the same name, or a wanted column is missing.
        """
        header = list(header)
        by_name: dict[str, list[str]] = {}
        for written in header:
            by_name.setdefault(folded(written), []).append(written)
        found: dict[str, str] = {}
        for column in FILE_COLUMNS:
            name = next((each for each in self.names(column) if each in by_name), None)
            if name is None:
                continue
            if len(by_name[name]) > 1:
                raise InvalidDataError(f"{file} has two columns named {name}; keep one")
            found[column] = by_name[name][0]
        wanted = list(wanted)
        if missing := [column for column in wanted if column not in found]:
            absent = " and no column ".join(self._described(column) for column in missing)
            raise InvalidDataError(
                f"{file} has no column {absent}; expected a header with {', '.join(map(self.shown, wanted))} (in any "
                f"case), got {_named(header)}; `evergreen init {file}` writes an {CONFIGURATION_FILE} that names its "
                "columns"
            )
        return found

    def unread(self, header: Iterable[str], file: str) -> str | None:
        """Return the notice about a column of aspects or topics that a task of plain text does not use, or None."""
        ignored = [written for written in header if folded(written) in ("aspect", _TOPIC)]
        if self.task.phrase is not None or not ignored or folded(ignored[0]) in self.known:
            return None
        return f"{file}: the column {ignored[0]} is not used: task {self.task.name} classifies the text alone"

    def _described(self, column: str) -> str:
        named = f" ({column} in [data] of {self.where})" if column in self.columns else ""
        return f"{self.shown(column)}{named}"


def _named(header: Sequence[str]) -> str:
    shown = [log_line(each) if len(each) <= _NAME_CHARACTERS else f"one of {len(each)} characters" for each in header]
    more = [f"{len(shown) - _NAMED} more"] if len(shown) > _NAMED else []
    return listed([*shown[:_NAMED], *more], "and")


def folded(name: str) -> str:
    """Return a column's name in the form in which names are compared."""
    return name.strip().casefold()


def data_mapping(configuration: Mapping[str, Any], *, name: str = CONFIGURATION_FILE) -> DataMapping:
    """Return the mapping of a configuration's sections [task] and [data]. Pure.

    Args:
        configuration: content of the file.
        name: name of the file, for messages.

    Raises:
        PermanentError: a key is unknown or missing, or has a value that cannot be used.
    """
    task = _task(_section(configuration, "task", name), name)
    data = _section(configuration, "data", name)
    _check_keys(data, _DATA_KEYS, "data", name)
    columns, time_format = _columns(data, task, name)
    labels = data.get("labels")
    codes = {} if labels is None else codes_of_section(labels, task, name=name)
    file = data.get("file")
    if file is not None and (not isinstance(file, str) or not file.strip()):
        raise PermanentError(f"file in section [data] of {name}: expected the path of a data file, got {file!r}")
    return DataMapping(task=task, columns=columns, codes=codes, time_format=time_format, file=file, where=name)


def _section(configuration: Mapping[str, Any], section: str, name: str) -> Mapping[str, Any]:
    table = configuration.get(section, {})
    if not isinstance(table, Mapping):
        raise PermanentError(f"{section} of {name} is a single value; expected a section [{section}]")
    return table


def _check_keys(table: Mapping[str, Any], keys: tuple[str, ...], section: str, name: str) -> None:
    for key in table:
        if key not in keys:
            close = get_close_matches(key, keys, n=1, cutoff=0.6)
            advice = f"did you mean {close[0]}?" if close else f"expected {', '.join(keys)}"
            raise PermanentError(f"[{section}] of {name} has the unknown key {key!r}: {advice}")


def _task(table: Mapping[str, Any], name: str) -> TaskSpec:
    if not table:
        return ABSA
    _check_keys(table, _TASK_KEYS, "task", name)
    if missing := [key for key in _REQUIRED if key not in table]:
        raise PermanentError(f"[task] of {name} has no {missing[0]}; expected {', '.join(_REQUIRED)}")
    try:
        return TaskSpec.from_json(table)
    except ValueError as error:
        raise PermanentError(f"[task] of {name}: {error}") from None


def _columns(data: Mapping[str, Any], task: TaskSpec, name: str) -> tuple[dict[str, str], str | None]:
    """Return the names of columns in files, and the form of times."""
    columns: dict[str, str] = {}
    keys: dict[str, str] = {}
    time_format = None
    for key, value in data.items():
        if key in ("labels", "file"):
            continue
        written = value
        if key == "observed_at" and isinstance(value, Mapping):
            _check_keys(value, ("column", "format"), "data.observed_at", name)
            written, time_format = value.get("column", key), _time_format(value.get("format"), name)
        if not isinstance(written, str) or not written.strip():
            raise PermanentError(f"{key} in section [data] of {name}: expected the name of a column, got {written!r}")
        column = "aspect" if key == _TOPIC else key
        if column == "aspect" and task.phrase is None:
            raise PermanentError(
                f"{key} in section [data] of {name}: task {task.name} reads the text alone (input = {task.input!r}); "
                f'remove {key}, or set input = "text+{key}"'
            )
        if column in columns:
            raise PermanentError(f"[data] of {name} has both aspect and topic: keep {task.phrase}")
        if twice := next((other for other, name_ in columns.items() if folded(name_) == folded(written)), None):
            raise PermanentError(
                f"{keys[twice]} and {key} in section [data] of {name} both name the column {written!r}"
            )
        columns[column], keys[column] = written.strip(), key
    return columns, time_format


def _time_format(value: Any, name: str) -> str | None:
    if value is None:
        return None
    try:
        at = datetime(2026, 11, 30)
        if not isinstance(value, str) or datetime.strptime(at.strftime(value), value).date() != at.date():
            raise ValueError
    except ValueError:
        raise PermanentError(
            f"format of observed_at in section [data] of {name}: expected day, month and year such as %d/%m/%Y, got "
            f"{value!r}"
        ) from None
    return value


def default_codes(task: TaskSpec) -> Mapping[str, int]:
    """Return the numbers of labels by their numbers and names, as files may write them.

    Numbers are left out if a label's name is a number.
    """
    names = _names(task)
    numbers = {str(number): number for number in range(task.n_labels)}
    return names if any(name.isdigit() for name in names) else numbers | names


def codes_of_section(section: Any, task: TaskSpec, *, name: str = CONFIGURATION_FILE) -> Mapping[str, int]:
    """Return the label of each value that files may write, from the section [data.labels]. Pure.

    Names of labels always count. If the section exists, only numbers in the section count.

    Raises:
        PermanentError: the value is not a section, or names a label that the task does not have.
    """
    if not isinstance(section, Mapping):
        raise PermanentError(f"data.labels of {name} is a single value; expected a section [data.labels]")
    return _names(task) | {
        normal_code(written): _label(written, label, task, name) for written, label in section.items()
    }


def _names(task: TaskSpec) -> dict[str, int]:
    return {normal_code(label): number for number, label in enumerate(task.labels)}


def normal_code(written: str) -> str:
    """Return a value in the form in which codes are compared: stripped, in lower case, 1 for 1.0."""
    code = written.strip().lower()
    whole, point, fraction = code.partition(".")
    return whole if point and not fraction.strip("0") and whole.lstrip("+-").isdigit() else code


def check_coding(name: str, codes: Mapping[str, int], written: Mapping[str, int]) -> None:
    """Refuse a file that codes sentiments as -1, 0, 1 without a mapping, because 0 and 1 would be read wrongly.

    Args:
        name: name of the file.
        codes: label of each value that files may write; files with other labels than sentiments are accepted.
        written: number of the file's rows by value, at least for the values -1 and 2.

    Raises:
        InvalidDataError: the file has the value -1 but not 2, and -1 is not a code.
    """
    sentiments = _names(ABSA).items() <= codes.items()
    if sentiments and written.get("-1") and not written.get("2") and "-1" not in codes:
        raise InvalidDataError(
            f"{name} codes its labels as -1, 0, 1; expected {_expected(ABSA)}. Map them in evergreen.toml (in the "
            f"home, or the file that {CONFIG_VARIABLE} names): a section [data.labels] with "
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


DEFAULT_MAPPING: Final = DataMapping()
"""Default mapping: the default task, and columns with the names of records."""
DEFAULT_CODES: Final[Mapping[str, int]] = default_codes(ABSA)
