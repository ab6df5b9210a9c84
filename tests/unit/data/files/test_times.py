"""Times as databases and spreadsheets write them."""

from datetime import UTC, datetime

import polars as pl
import pytest

from absa.data.files.times import other_times, times
from absa.data.read import read_examples

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("written", "time"),
    [
        ("2026-11-01T12:00:00Z", NOON),
        ("2026-11-01 12:00", NOON),
        ("2026-11-01T12:00Z", NOON),
        ("2026-11-01 12:00:00.123+00", NOON.replace(microsecond=123_000)),
        ("2026-11-01 12:00:00,5", NOON.replace(microsecond=500_000)),
        ("2026-11-01 14:00:00+0200", NOON),
        ("2026-11-01 14:00+02", NOON),
        ("2026-11-01 06:30:00 -05:30", NOON),
        ("2026-11-01 12:00:00 UTC", NOON),
        ("2026/11/01 12:00:00", NOON),
        ("2026.11.01", NOON.replace(hour=0)),
        ("2026-11-01", NOON.replace(hour=0)),
        ("01.11.2026", None),
        ("2026-11-31", None),
        ("2026-11-01 25:00", None),
        ("soon", None),
    ],
)
def test_common_forms_are_times_and_others_are_none(written, time):
    column = pl.DataFrame({"t": [written]}).select(pl.coalesce(times(pl.col("t")), other_times(pl.col("t"))))
    assert column.item() == time


def test_file_mixes_forms_of_times(tmp_path):
    path = tmp_path / "rows.csv"
    written = ["2026-11-01 12:00", "2026-11-01T12:00:00Z", "2026-11-01 12:00:00+00", "yesterday"]
    path.write_text("\n".join(["text,aspect,label,observed_at", *(f"the app,app,1,{each}" for each in written)]))
    examples, quarantine = read_examples(path, max_bad_share=0.5)
    assert examples["observed_at"].to_list() == [NOON] * 3
    assert quarantine.rows.select("row", "reason").rows() == [(5, "observed_at_invalid")]
