"""What a batch says and refuses before and while it runs."""

from pathlib import Path

import pytest

from absa.adapters.lake import FolderLake
from absa.batch.batch_job import Progress
from absa.errors import PermanentError
from flows.batch.batch_run import BatchRequest, engines_of, said, usd_per_row
from flows.platform.services import build_services
from flows.platform.settings import Settings


def request(**changes: object) -> BatchRequest:
    return BatchRequest(**{"input_uri": "in.csv", "output_uri": "out", **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"engine": "spark"}, "local or ray"),
        ({"address": "auto"}, "--engine ray"),
        ({"partition_rows": 0}, "1 or more"),
        ({"max_bad_share": 1.5}, "between 0 and 1"),
    ],
)
def test_a_request_that_cannot_be_met_is_refused_in_one_sentence(changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(PermanentError, match=sentence):
        engines_of(request(**changes))


def test_the_cost_so_far_comes_from_the_lake_where_someone_has_asked_for_prices(tmp_path: Path) -> None:
    lake = FolderLake(tmp_path)
    services = build_services(Settings(lake=str(tmp_path)), environment={})
    assert usd_per_row(services) is None
    lake.write("cost/current.json", b'{"usd_per_million_batch": 0.02}')
    each = usd_per_row(services)
    now = Progress(partitions=3, rows=500_000, share=0.25, rows_per_s=1480.4, elapsed_s=60.0, eta_s=192.0)
    assert said(now, each) == "25%, 500,000 rows, 1,480 rows/s, 3 min 12 s left, about US$ 0.0100 so far"
    assert "US$" not in said(now, None)
    lake.write("cost/current.json", b'{"usd_per_million_batch": null}')
    assert usd_per_row(services) is None
