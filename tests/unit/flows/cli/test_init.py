"""`evergreen init`: evergreen.toml from a data file, in its place, without losing what is there."""

from pathlib import Path

import pytest

from absa.data.ingest import ingest
from absa.errors import InvalidDataError, PermanentError
from flows.cli.home.init_command import configuration_place, init_home, with_sections
from flows.platform.services import build_services
from flows.platform.settings import Settings
from flows.training.training_snapshot import take_snapshot
from tests.unit.data.recognition.files import delimited, intents, texts

SECTIONS = '# `evergreen init` recognised this in x.csv; more\n[task]\nname = "x"\n\n[data]\ntext = "T"\n'


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("HOME", "CONFIG", "PROFILE"):
        monkeypatch.delenv(f"EVERGREEN_{name}", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def tickets(folder: Path, name: str = "tickets.csv", count: int = 60) -> Path:
    file = folder / name
    file.write_text(delimited({"Message": texts(count), "Reason": intents(count)}), encoding="utf-8")
    return file


def test_first_training_takes_the_recognised_file(folder: Path) -> None:
    lines = list(init_home(Settings.load(), tickets(folder), name=None, force=False))
    assert lines[-1] == f"wrote {folder / 'evergreen.toml'}"
    assert "60 of 60 rows can be used" in lines
    settings = Settings.load()
    assert (settings.task.name, settings.task.labels) == ("tickets", ("billing", "bug", "praise"))
    manifest = take_snapshot(build_services(settings, environment={}), [])
    assert (manifest.task, manifest.side_rows("train") > 20) == (settings.task, True)


def test_rows_that_cannot_be_used_are_counted(folder: Path) -> None:
    file = tickets(folder)
    with file.open("a", encoding="utf-8") as more:
        more.write(",bug\nlost,\n")
    assert "60 of 62 rows can be used, 1 label_missing, 1 text_empty" in list(
        init_home(Settings.load(), file, name=None, force=False)
    )


def test_existing_file_is_replaced_on_request(folder: Path) -> None:
    place = folder / "evergreen.toml"
    place.write_text('profile = "small"\n[gate]\nmin_rows = 7\n', encoding="utf-8")
    with pytest.raises(PermanentError, match=r"evergreen.toml exists: --force replaces its sections \[task"):
        list(init_home(Settings.load(), tickets(folder), name=None, force=False))
    for name in ("one", "two"):
        list(init_home(Settings.load(), tickets(folder), name=name, force=True))
    settings = Settings.load()
    assert (settings.profile, settings.gate.min_rows, settings.task.name) == ("small", 7, "two")
    assert place.read_text(encoding="utf-8").count("evergreen init") == 1


def test_home_of_another_task_stays_as_it_is(folder: Path) -> None:
    list(init_home(Settings.load(), tickets(folder), name=None, force=False))
    settings = Settings.load()
    ingest(build_services(settings, environment={}).lake, [folder / "tickets.csv"], mapping=settings.data)
    before = (folder / "evergreen.toml").read_text(encoding="utf-8")
    other = folder / "other.csv"
    other.write_text(delimited({"text": texts(60), "topic": ["x"] * 60, "label": intents(60)}), encoding="utf-8")
    with pytest.raises(PermanentError, match=r"other.csv does not fit the home .* expected tickets \(text; .* got"):
        list(init_home(settings, other, name=None, force=True))
    assert (folder / "evergreen.toml").read_text(encoding="utf-8") == before


def test_new_label_is_appended_to_the_homes(folder: Path) -> None:
    list(init_home(Settings.load(), tickets(folder), name=None, force=False))
    settings = Settings.load()
    ingest(build_services(settings, environment={}).lake, [folder / "tickets.csv"], mapping=settings.data)
    more = folder / "more.csv"
    names = ("account", "bug", "praise")
    more.write_text(delimited({"Message": texts(60), "Reason": intents(60, names)}), encoding="utf-8")
    list(init_home(settings, more, name=None, force=True))
    assert Settings.load().task.labels == ("billing", "bug", "praise", "account")


def test_place_is_home_where_there_is_one(folder: Path) -> None:
    assert configuration_place(Settings.load()) == folder / "evergreen.toml"
    (folder / ".evergreen").mkdir()
    assert configuration_place(Settings.load()) == folder / ".evergreen" / "evergreen.toml"
    assert configuration_place(Settings(home=folder / "named")) == folder / "named" / "evergreen.toml"


def test_unreadable_file_writes_nothing(folder: Path) -> None:
    file = folder / "export.xls"
    file.write_bytes(b"PK\x03\x04")
    with pytest.raises(InvalidDataError, match="is a workbook"):
        list(init_home(Settings.load(), file, name=None, force=False))
    assert not (folder / "evergreen.toml").exists()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("", SECTIONS),
        (SECTIONS, SECTIONS),
        ("[gate]\nmin_rows = 7\n", f"[gate]\nmin_rows = 7\n\n{SECTIONS}"),
        ('[data.labels]\na = 1\n[gate]\nmin_rows = 7\n["data"]\ntext = "B"\n', f"[gate]\nmin_rows = 7\n\n{SECTIONS}"),
    ],
)
def test_other_sections_are_kept(old: str, new: str) -> None:
    assert with_sections(old, SECTIONS) == new


@pytest.mark.parametrize("old", ['task = {name = "x"}\n', "[gate]\nx = [\n[1],\n[2]]\n[task]\n[data]\na = [\n[3]]\n"])
def test_sections_that_cannot_be_cut_are_left(old: str) -> None:
    with pytest.raises(PermanentError, match=r"remove its sections \[task\] and \[data\] by hand first"):
        with_sections(old, SECTIONS)
