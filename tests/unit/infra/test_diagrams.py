"""The picture in the design document shows what its Mermaid source in the page on architecture says."""

import html
import re
from pathlib import Path

DOCS = Path(__file__).resolve().parents[3] / "docs"


def _letters(text: str) -> str:
    return re.sub(r"\W|_", "", html.unescape(text))


def test_picture_holds_every_label_of_source() -> None:
    page = (DOCS / "design/architecture.md").read_text(encoding="utf-8")
    found = re.search(r"```mermaid\n(.*?)```", page, re.DOTALL)
    assert found is not None
    picture = (DOCS / "pictures/architecture.svg").read_text(encoding="utf-8")
    shown = _letters(re.sub(r"<style.*?</style>|<[^>]+>", "", picture, flags=re.DOTALL))
    source = found[1].replace("<br/>", " ")
    labels = [*re.findall(r"\|([^|]+)\|", source), *re.findall(r"\w\[\(?([^\[\]]+?)\)?\]", source)]
    assert len(labels) > 5
    assert [label for label in labels if _letters(label) not in shown] == []
