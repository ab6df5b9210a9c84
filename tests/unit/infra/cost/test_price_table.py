"""The price table, and how AWS's answers change it."""

import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.stub import ANY, Stubber

from infra.cost.prices import MissingPriceError, Price, read_prices, task_hour, write_prices
from infra.cost.refresh import query, refresh


def test_shipped_price_is_sourced_or_marked() -> None:
    prices = read_prices()
    assert len(prices) > 35
    for price in prices.values():
        assert (price.status == "sourced") == bool(price.source)
    assert prices["cloudwatch-alarm"].status == "unverified"
    assert prices["c8g.xlarge"].at(spot=True) < prices["c8g.xlarge"].usd


def test_a_price_that_is_missing_is_named() -> None:
    with pytest.raises(MissingPriceError, match=r"z9\.nano"):
        read_prices()["z9.nano"]


def test_a_table_that_is_written_reads_the_same(tmp_path: Path) -> None:
    prices = read_prices()
    write_prices(prices.values(), tmp_path / "prices.csv")
    assert read_prices(tmp_path / "prices.csv") == prices


@pytest.mark.parametrize("line", ["a,ec2,hour,free", "a,ec2,hour,0", "a,ec2,hour,1\na,ec2,hour,2"])
def test_a_table_that_cannot_be_used_is_refused(tmp_path: Path, line: str) -> None:
    rows = "\n".join(f"{each},,,,,,,,," for each in line.split("\n"))
    path = tmp_path / "prices.csv"
    path.write_text("item,kind,unit,usd,vcpus,memory_gb,accelerator,arch,spot_usd,region,source,source_date\n" + rows)
    with pytest.raises(ValueError, match="prices line"):
        read_prices(path)


def test_fargate_task_pays_cpu_and_memory() -> None:
    usd = task_hour(read_prices(), vcpus=2, memory_gb=4, arch="arm64")
    assert usd == pytest.approx(2 * 0.03238 + 4 * 0.00356)


def product(*tiers: tuple[str, str]) -> str:
    """One entry of the API's PriceList with tiers of (from, US dollars)."""
    dimensions = {
        f"d{k}": {"beginRange": begin, "unit": "Hrs", "pricePerUnit": {"USD": usd}}
        for k, (begin, usd) in enumerate(tiers)
    }
    return json.dumps({"product": {}, "terms": {"OnDemand": {"t": {"priceDimensions": dimensions}}}})


class Aws:
    """Stubbed clients: answers in the order of the table."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
        self.pricing: Any = boto3.client("pricing", region_name="us-east-1")
        self.ec2: Any = boto3.client("ec2", region_name="us-east-1")
        self.pricing_stub, self.ec2_stub = Stubber(self.pricing), Stubber(self.ec2)
        self.pricing_stub.activate()
        self.ec2_stub.activate()

    def answer(self, service: str, *products: str, filters: Any = ANY) -> None:
        self.pricing_stub.add_response(
            "get_products",
            {"FormatVersion": "aws_v1", "PriceList": list(products)},
            {"ServiceCode": service, "Filters": filters, "FormatVersion": "aws_v1"},
        )


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Aws:
    return Aws(monkeypatch)


def old(item: str, **more: Any) -> Price:
    return Price(**{"item": item, "kind": "s3", "unit": "u", "usd": 9.0, "source": "old", "source_date": "2020"} | more)


def test_one_answer_replaces_price_with_source(aws: Aws) -> None:
    table = {"c8g.xlarge": old("c8g.xlarge", kind="ec2", spot_usd=8.0)}
    filters = [
        {"Type": "TERM_MATCH", "Field": name, "Value": value}
        for name, value in query(table["c8g.xlarge"]).filters.items()
    ]  # type: ignore[union-attr]
    aws.answer("AmazonEC2", product(("0", "0.1600000000")), filters=filters)
    at = datetime(2026, 11, 24, tzinfo=UTC)
    history = [
        {"AvailabilityZone": zone, "SpotPrice": usd, "Timestamp": at.replace(hour=hour), "InstanceType": "c8g.xlarge"}
        for zone, usd, hour in (("a", "0.05", 3), ("a", "0.99", 1), ("b", "0.07", 2), ("c", "0.06", 2))
    ]
    aws.ec2_stub.add_response("describe_spot_price_history", {"SpotPriceHistory": history})
    fresh, kept = refresh(table, aws.pricing, aws.ec2, today=date(2026, 11, 24))
    assert kept == []
    assert (fresh[0].usd, fresh[0].spot_usd) == (0.16, 0.06)
    assert (fresh[0].source, fresh[0].source_date) == ("AWS Price List API", "2026-11-24")


def test_ambiguous_answer_keeps_old_price(aws: Aws) -> None:
    table = {item: old(item) for item in ("alb-hour", "alb-lcu-hour", "nobody-knows")}
    aws.answer("AWSELB")
    aws.answer("AWSELB", product(("0", "0.008")), product(("0", "0.009")))
    fresh, kept = refresh(table, aws.pricing, aws.ec2, today=date(2026, 11, 24))
    assert fresh == list(table.values())
    assert [sentence.split(":")[0] for sentence in kept] == ["alb-hour", "alb-lcu-hour", "nobody-knows"]


def test_free_tiers_are_skipped_and_units_converted(aws: Aws) -> None:
    table = {item: old(item) for item in ("s3-standard", "s3-standard-put")}
    aws.answer("AmazonS3", product(("51200", "0.022"), ("0", "0.023")))
    aws.answer("AmazonS3", product(("0", "0.0000000000"), ("2000", "0.0000050000")))
    fresh, _ = refresh(table, aws.pricing, aws.ec2, today=date(2026, 11, 24))
    assert [price.usd for price in fresh] == [0.023, 0.005]


def test_every_shipped_compute_price_can_be_asked_for() -> None:
    asked = {price.item: query(price) for price in read_prices().values() if price.kind in ("ec2", "fargate")}
    assert all(asked.values())
