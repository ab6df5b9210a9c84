"""Whatever the rows, a snapshot leaks no text between sides, keeps one row a pair, and does not depend on the way."""

import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from absa.adapters.lake_stores import FolderLake
from absa.data.ingest import build_snapshot
from absa.data.normalise import near_duplicate_key, normalise
from absa.data.read import EXAMPLE_COLUMNS, with_example_id
from absa.data.snapshot import load_side
from absa.records.schema import SIDES

AT = datetime(2026, 11, 30, tzinfo=UTC)
TEXTS = st.lists(st.sampled_from(["a", "b", "App", "1", "!", "é"]), min_size=1, max_size=4).map("app ".join)
ROWS = st.lists(
    st.tuples(TEXTS.map("app {}".format), st.sampled_from(["app", "APP", "a"]), st.integers(0, 2)),
    min_size=1,
    max_size=40,
)


def frame(rows: list[tuple[str, str, int]]) -> pl.DataFrame:
    """Every row at a time of its own, so that no tie is left to their order."""
    records = [
        {"text": text, "aspect": aspect, "label": label, "observed_at": AT + timedelta(seconds=n), "source": "s"}
        | {"schema_version": 1, "segment": None}
        for n, (text, aspect, label) in enumerate(rows)
    ]
    schema = {name: kind for name, kind in EXAMPLE_COLUMNS.items() if name != "example_id"}
    return with_example_id(pl.DataFrame(records, schema=schema))


@settings(max_examples=25)
@given(ROWS, st.randoms(use_true_random=False))
def test_splits_share_no_text_and_order_is_irrelevant(rows, random):
    with tempfile.TemporaryDirectory() as folder:
        lake = FolderLake(Path(folder))
        table = frame(rows)
        manifest = build_snapshot(lake, [table])
        sides = {name: load_side(lake, manifest.digest, name) for name in SIDES}
        keys = {name: {near_duplicate_key(text) for text in side["text"]} for name, side in sides.items()}
        assert not (
            keys["train"] & keys["validation"] | keys["train"] & keys["test"] | keys["validation"] & keys["test"]
        )
        kept = pl.concat(sides.values())
        pairs = [(near_duplicate_key(text), normalise(aspect)) for text, aspect in kept.select("text", "aspect").rows()]
        assert len(pairs) == len(set(pairs))
        assert set(pairs) == {(near_duplicate_key(text), normalise(aspect)) for text, aspect, _ in rows}
        assert manifest.total_rows + manifest.duplicates_removed + manifest.conflicts_resolved == len(rows)
        shuffled = table[random.sample(range(len(rows)), len(rows))]
        assert build_snapshot(lake, [shuffled]).digest == manifest.digest
        assert build_snapshot(lake, [shuffled], parent=manifest.digest).digest == manifest.digest
