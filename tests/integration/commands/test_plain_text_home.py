"""Everything that the commands of a plain-text home say and write, without a word of the default task."""

from pathlib import Path

import pytest

from absa.ledger.lifecycle import crowned
from flows.platform.services import build_services
from tests.command_line import evergreen
from tests.homes import said_in, words_of_default_task
from tests.toy_package import build_toy_package

ROWS = [f"the {word} {kind},{kind}" for word in "abcdefghijklmnopqrst" for kind in ("billing", "bug")]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("HOME", "LAKE", "CONFIG", "PROFILE"):
        monkeypatch.delenv(f"EVERGREEN_{name}", raising=False)
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def crown_a_toy(folder: Path) -> None:
    services = build_services()
    digest = services.packages.put(build_toy_package(folder / "toy", task=services.settings.task))
    state = crowned("1")
    services.ledger.append(expected=0, actor="t", action="promote", reason="r", state=state, versions={"1": digest})


def test_commands_of_plain_text_name_no_aspect(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Path("rows.csv").write_text("\n".join(["text,label", *ROWS]) + "\n", encoding="utf-8")
    Path("bad.csv").write_text("text,label\n,bug\nthe app,praise\nit crashes,\nthe parcel,bug\n", encoding="utf-8")
    Path("other.csv").write_text("words,kind\na,b\n", encoding="utf-8")
    assert evergreen("init", "rows.csv") == 0
    for file, share, code in (("rows.csv", "0", 0), ("other.csv", "0", 1), ("bad.csv", "0", 1), ("bad.csv", "0.9", 0)):
        assert evergreen("ingest", file, "--max-bad-share", share) == code
    crown_a_toy(folder)
    window = ("--window", "1h")
    batch = ("batch", "--input", "bad.csv", "--output", "out", "--workers", "0", "--max-bad-share", "0.9", "--log")
    for code, words in (
        (0, ("predict", "the bug")), (1, ("predict", "the bug", "bug")), (1, ("predict", "")), (1, ("insights",)),
        (0, batch), (3, (*batch[:-1], "--max-bad-share", "0")), (0, ("labels", "export", "queue.csv", *window)),
        (0, ("data", "list")), (0, ("status",)), (0, ("config",)), (0, ("cost",)),
    ):  # fmt: skip
        assert (words, evergreen(*words)) == (words, code)
    said = "".join(capfd.readouterr())
    assert words_of_default_task(said) == []
    written = dict(said_in(folder))
    assert {Path(place).name for place in written} >= {"evergreen.toml", "refused.csv", "queue.csv", "manifest.json"}
    assert {place: found for place, each in written.items() if (found := words_of_default_task(each))} == {}
