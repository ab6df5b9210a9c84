"""Section [data.labels] of evergreen.toml: what a value of a file means."""

from pathlib import Path

import pytest

from absa.data.label_codes import DEFAULT_CODES, label_codes, normal_code, read_label_codes
from absa.errors import PermanentError

MAPPED = {"negative": 0, "neutral": 1, "positive": 2, "-1": 0, "0": 1, "1": 2}


def test_values_map_to_names_or_numbers_of_labels():
    assert label_codes({"data": {"labels": {"-1": "negative", "0": 1, "1.0": "Positive"}}}) == MAPPED


def test_other_sections_are_left_alone():
    assert label_codes({"task": {"name": "topics"}, "router": 5}) is DEFAULT_CODES


@pytest.mark.parametrize(
    ("configuration", "sentence"),
    [
        ({"data": {"label": {}}}, r"\[data\] of evergreen.toml has the unknown key 'label'; expected labels"),
        ({"data": {"labels": {"-1": "bad"}}}, "-1 = 'bad' .* is not a label; expected 0 or 'negative'"),
        ({"data": {"labels": {"-1": 3}}}, "-1 = 3 .* is not a label"),
        ({"data": {"labels": {"-1": True}}}, "-1 = True .* is not a label"),
        ({"data": {"labels": "negative"}}, r"single value; expected a section \[data.labels\]"),
        ({"data": 5}, r"single value; expected a section \[data.labels\]"),
    ],
)
def test_unusable_section_gets_one_sentence(configuration, sentence):
    with pytest.raises(PermanentError, match=sentence):
        label_codes(configuration)


def test_codes_come_from_home_or_named_file(tmp_path: Path):
    assert read_label_codes(None, tmp_path) is read_label_codes(None, None) is DEFAULT_CODES
    (tmp_path / "evergreen.toml").write_text('[data.labels]\n-1 = "negative"\n0 = "neutral"\n1 = "positive"\n')
    assert read_label_codes(None, tmp_path) == MAPPED
    (tmp_path / "other.toml").write_text('[data.labels]\nbad = 0\n[task]\nname = "absa"\n')
    found = read_label_codes(tmp_path / "other.toml", tmp_path)
    assert found == {"negative": 0, "neutral": 1, "positive": 2, "bad": 0}


@pytest.mark.parametrize("named", ["", " "])
def test_empty_name_of_a_file_is_refused(named: str, tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match="EVERGREEN_CONFIG is empty: name a file"):
        read_label_codes(named, tmp_path)


@pytest.mark.parametrize(("content", "sentence"), [(None, "cannot be read"), ("labels =", "is not TOML")])
def test_unreadable_named_file_is_an_error(tmp_path, content, sentence):
    path = tmp_path / "named.toml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(PermanentError, match=rf"named\.toml.* {sentence}"):
        read_label_codes(str(path))


@pytest.mark.parametrize(
    ("written", "code"), [(" 1.00 ", "1"), ("-1.0", "-1"), ("2.", "2"), ("1.5", "1.5"), ("Positive", "positive")]
)
def test_codes_are_compared_without_case_and_fraction(written, code):
    assert normal_code(written) == code
