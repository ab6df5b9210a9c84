"""Simulated customers stay out of homes with a user's own rows."""

from pathlib import Path

import polars as pl
import pytest

from absa.config_file import DEMO_STATE
from absa.data.bundled import BUNDLED
from absa.data.ingest import ingest
from absa.errors import PermanentError
from flows.demo.customer_stream import refuse_real_data
from flows.platform.services import build_services
from flows.platform.settings import Settings
from tests.conftest import labelled_rows
from tests.stand_ins import FakeRegistry


def test_sample_texts_stay_out_of_real_homes(tmp_path: Path) -> None:
    services = build_services(Settings(home=tmp_path / "home"), environment={}, registry=FakeRegistry())
    refuse_real_data(services)
    sample = tmp_path.joinpath(*BUNDLED["absa"].ingested.parts[-3:])
    sample.parent.mkdir(parents=True)
    for file, refused in ((sample, False), (tmp_path / "tickets.csv", True)):
        pl.DataFrame(labelled_rows(24 if refused else 20)).write_csv(file)
        ingest(services.lake, [file])
        if not refused:
            refuse_real_data(services)
    with pytest.raises(PermanentError, match=r"holds rows of .*tickets.csv: simulated customers .* --force"):
        refuse_real_data(services)
    (services.home.folder() / DEMO_STATE).write_text("{}")
    refuse_real_data(services)
