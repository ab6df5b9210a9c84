"""The pictures of diagrams show what their Mermaid sources say."""

import html
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[3] / "docs"


def _letters(text: str) -> str:
    return re.sub(r"\W|_", "", html.unescape(text))


@pytest.mark.parametrize(
    ("page", "picture"),
    [
        ("design/architecture.md", "architecture.svg"),
        ("deployment_pipeline.md", "deployment_pipeline-1.svg"),
    ],
)
def test_picture_holds_every_label_of_source(page: str, picture: str) -> None:
    found = re.search(r"```mermaid\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    drawn = (DOCS / "pictures" / picture).read_text(encoding="utf-8")
    shown = _letters(re.sub(r"<style.*?</style>|<[^>]+>", "", drawn, flags=re.DOTALL))
    source = found[1].replace("<br/>", " ")
    labels = [*re.findall(r"\|([^|]+)\|", source), *re.findall(r"\w\[\(?([^\[\]]+?)\)?\]", source)]
    assert len(labels) > 5
    assert [label for label in labels if _letters(label) not in shown] == []
