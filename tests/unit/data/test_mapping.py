"""Sections [task] and [data] of evergreen.toml: what is classified, and the form of its files."""

import pickle
import tomllib
from pathlib import Path

import pytest

from absa.config_file import read_mapping
from absa.data.mapping import DEFAULT_CODES, DEFAULT_MAPPING, DataMapping, data_mapping, normal_code
from absa.errors import InvalidDataError, PermanentError
from absa.task import ABSA, TaskSpec

MAPPED = {"negative": 0, "neutral": 1, "positive": 2, "-1": 0, "0": 1, "1": 2}
TASK = '[task]\nname = "tickets"\ninput = "INPUT"\nlabels = ["billing", "Bug", "praise"]\n'
TICKETS = TaskSpec(name="tickets", input="text", labels=("billing", "Bug", "praise"))
TOPICS = TaskSpec(name="tickets", input="text+topic", labels=("no", "yes"))


def mapping(text: str, *, input_: str = "text") -> DataMapping:
    return data_mapping(tomllib.loads(TASK.replace("INPUT", input_) + text))


def test_without_sections_the_task_is_aspect_sentiment() -> None:
    found = data_mapping({"router": 5})
    assert (found, found.task, found.codes) == (DEFAULT_MAPPING, ABSA, DEFAULT_CODES)
    header = ["LABEL", " Aspect", "Extra", "TeXt"]
    assert found.choose(header, "f", ("text",)) == {"text": "TeXt", "aspect": " Aspect", "label": "LABEL"}


def test_values_map_to_labels() -> None:
    assert data_mapping({"data": {"labels": {"-1": "negative", "0": 1, "1.0": "Positive"}}}).codes == MAPPED
    found = mapping('[data.labels]\n"Bug report" = "bug"\nRefund = 0\n')
    assert found.codes == {"billing": 0, "bug": 1, "praise": 2, "bug report": 1, "refund": 0}


def test_names_and_numbers_are_codes() -> None:
    assert mapping("").codes == {"0": 0, "1": 1, "2": 2, "billing": 0, "bug": 1, "praise": 2}


def test_numbers_do_not_count_where_labels_are_numbers() -> None:
    stars = TaskSpec(name="stars", input="text", labels=("1", "2", "3"))
    assert DataMapping(task=stars).codes == {"1": 0, "2": 1, "3": 2}


def test_mapped_columns_are_found_in_any_case() -> None:
    found = mapping('[data]\ntext = "Feedback"\nlabel = "Category"\nobserved_at = "Created"\nsegment = "Plan"\n')
    header = ["ID", "FEEDBACK ", "category", "Plan"]
    assert found.choose(header, "f.csv", ("text", "label")) == {
        "text": "FEEDBACK ", "label": "category", "segment": "Plan",
    }  # fmt: skip


def test_our_own_column_names_need_no_mapping() -> None:
    found = mapping('[data]\ntext = "Feedback"\nlabel = "Category"\n')
    assert found.choose(["text", "label"], "f.csv", ("text", "label")) == {"text": "text", "label": "label"}


def test_name_that_is_mapped_is_no_other_column() -> None:
    found = mapping('[data]\ntext = "Label"\nlabel = "Category"\n')
    with pytest.raises(InvalidDataError, match=r"f has no column Category \(label in \[data\] of evergreen.toml\)"):
        found.choose(["label"], "f", ("text", "label"))


def test_missing_column_has_the_users_name() -> None:
    with pytest.raises(
        InvalidDataError,
        match=r"no column text; .* with text, label \(in any case\), got Feedback and label;",
    ):
        mapping("").choose(["Feedback", "label"], "f", ("text", "label"))
    with pytest.raises(InvalidDataError, match=r"no column topic; .* with text, topic .*`evergreen init f` writes"):
        DataMapping(task=TOPICS).choose(["text"], "f", ("text", "aspect"))


def test_doubled_column_is_refused() -> None:
    with pytest.raises(InvalidDataError, match="f has two columns named feedback; keep one"):
        mapping('[data]\ntext = "Feedback"\n').choose(["Feedback", "feedback", "label"], "f", ())


@pytest.mark.parametrize("name", ["topic", "Aspect"])
def test_topic_is_found_under_both_names(name: str) -> None:
    assert DataMapping(task=TOPICS).choose(["text", name], "f", ("aspect",))["aspect"] == name


def test_plain_text_leaves_aspects_aside_with_a_notice() -> None:
    assert mapping("").choose(["text", "aspect"], "f", ()) == {"text": "text"}
    assert mapping("").unread(["text", "Aspect"], "f.csv") == (
        "f.csv: the column Aspect is not used: task tickets classifies the text alone"
    )
    assert mapping('[data]\nlabel = "topic"\n').unread(["text", "topic"], "f.csv") is None
    assert DEFAULT_MAPPING.unread(["text", "aspect"], "f.csv") is None


def test_times_may_have_a_format() -> None:
    found = mapping('[data]\nobserved_at = {column = "Date", format = "%d/%m/%Y"}\n')
    assert (found.columns["observed_at"], found.time_format) == ("Date", "%d/%m/%Y")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[data]\nlable = 'x'", r"\[data\] of evergreen.toml has the unknown key 'lable': did you mean label\?"),
        ("[data]\nxyz = 'x'", "unknown key 'xyz': expected text, aspect, topic, label"),
        ("[data]\ntext = 5", r"text in section \[data\] of evergreen.toml: expected the name of a column, got 5"),
        ("[data]\ntext = 'A'\nlabel = 'a'", r"text and label in section \[data\] .* both name the column 'a'"),
        (
            "[data]\naspect = 'A'",
            "aspect in section .*: task tickets reads the text alone .* or set input =",
        ),
        ("[data]\nobserved_at = {format = '%H:%M'}", "expected day, month and year such as %d/%m/%Y, got '%H:%M'"),
        ("[data]\nobserved_at = {form = '%H'}", r"\[data.observed_at\] of .* unknown key 'form': did you mean format"),
        ("[data.labels]\nbad = 'worse'", "bad = 'worse' .* is not a label; expected 0 or 'billing', 1 or 'Bug'"),
        ("[data.labels]\nbad = 3", "bad = 3 .* is not a label"),
        ("[data.labels]\nbad = true", "bad = True .* is not a label"),
        ("[data]\nlabels = 'bug'", r"single value; expected a section \[data.labels\]"),
    ],
)
def test_unusable_data_section_gets_one_sentence(text: str, sentence: str) -> None:
    with pytest.raises(PermanentError, match=sentence):
        mapping(text)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("data = 5", r"single value; expected a section \[data\]"),
        ("[task]\nname = 'x'", r"\[task\] of evergreen.toml has no input; expected name, input, labels"),
        ("[task]\nlable = 'x'", "unknown key 'lable': did you mean labels"),
        (TASK, r"\[task\] of evergreen.toml: input: expected one of text, .*, got 'INPUT'"),
        (f'{TASK.replace("INPUT", "text")}evaluated = "bug"', "evaluated: expected a list of texts, got 'bug'"),
        (
            f'{TASK.replace("INPUT", "text+topic")}[data]\ntopic = "A"\naspect = "B"',
            "both aspect and topic: keep topic",
        ),
    ],
)
def test_unusable_task_gets_one_sentence(text: str, sentence: str) -> None:
    with pytest.raises(PermanentError, match=sentence):
        data_mapping(tomllib.loads(text))


def test_mapping_comes_from_home_or_named_file(tmp_path: Path) -> None:
    assert read_mapping(None, tmp_path).codes == read_mapping(None, None).codes == DEFAULT_CODES
    (tmp_path / "evergreen.toml").write_text('[data.labels]\n-1 = "negative"\n0 = "neutral"\n1 = "positive"\n')
    assert read_mapping(None, tmp_path).codes == MAPPED
    (tmp_path / "other.toml").write_text("[data.labels]\nbad = 0\n")
    found = read_mapping(tmp_path / "other.toml", tmp_path)
    assert found.codes == {"negative": 0, "neutral": 1, "positive": 2, "bad": 0}


def test_mapping_survives_pickling() -> None:
    found = mapping('[data]\ntext = "Feedback"\n')
    assert pickle.loads(pickle.dumps(found)) == found


@pytest.mark.parametrize("named", ["", " "])
def test_empty_name_of_a_file_is_refused(named: str, tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match="EVERGREEN_CONFIG is empty: name a file"):
        read_mapping(named, tmp_path)


@pytest.mark.parametrize(("content", "sentence"), [(None, "cannot be read"), ("labels =", "is not TOML")])
def test_unreadable_named_file_is_an_error(tmp_path: Path, content: str | None, sentence: str) -> None:
    path = tmp_path / "named.toml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(PermanentError, match=rf"named\.toml.* {sentence}"):
        read_mapping(str(path))


@pytest.mark.parametrize(
    ("written", "code"), [(" 1.00 ", "1"), ("-1.0", "-1"), ("2.", "2"), ("1.5", "1.5"), ("Positive", "positive")]
)
def test_codes_are_compared_without_case_and_fraction(written: str, code: str) -> None:
    assert normal_code(written) == code
