"""Current prices from AWS: list prices from the Price List API, spot prices from EC2. Only module that calls AWS."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from statistics import median
from typing import Any, Final

from infra.cost.prices import Price, Prices

_PREFIX: Final = {
    "us-east-1": "",
    "us-east-2": "USE2-",
    "us-west-2": "USW2-",
    "eu-west-1": "EU-",
    "eu-central-1": "EUC1-",
}
_LISTED: Final = "AWS Price List API"


@dataclass(frozen=True)
class Query:
    """Search for one price. `times` converts the API's unit into the table's (1,000 for a price per thousand)."""

    service: str
    filters: Mapping[str, str]
    times: float = 1.0


def _usage(service: str, usage: str, times: float = 1.0, **more: str) -> Query:
    return Query(service, {"usagetype": usage, **more}, times)


def query(price: Price) -> Query | None:
    """Return the query of the Price List API for an item; None if there is none."""
    if price.kind == "ec2":
        return Query(
            "AmazonEC2",
            {
                "instanceType": price.item, "regionCode": price.region, "operatingSystem": "Linux", "tenancy": "Shared",
                "preInstalledSw": "NA", "capacitystatus": "Used", "marketoption": "OnDemand",
            },
        )  # fmt: skip
    prefix = _PREFIX.get(price.region)
    if prefix is None:
        return None
    fargate = prefix or "USE1-"
    known = {
        "fargate-linux-x86-vcpu": _usage("AmazonECS", f"{fargate}Fargate-vCPU-Hours:perCPU"),
        "fargate-linux-x86-gb": _usage("AmazonECS", f"{fargate}Fargate-GB-Hours"),
        "fargate-linux-arm-vcpu": _usage("AmazonECS", f"{fargate}Fargate-ARM-vCPU-Hours:perCPU"),
        "fargate-linux-arm-gb": _usage("AmazonECS", f"{fargate}Fargate-ARM-GB-Hours"),
        "alb-hour": _usage("AWSELB", f"{prefix}LoadBalancerUsage", operation="LoadBalancing:Application"),
        "alb-lcu-hour": _usage("AWSELB", f"{prefix}LCUUsage", operation="LoadBalancing:Application"),
        "nat-gateway-hour": _usage("AmazonEC2", f"{prefix}NatGateway-Hours"),
        "nat-gateway-gb": _usage("AmazonEC2", f"{prefix}NatGateway-Bytes"),
        "vpc-interface-endpoint-hour": _usage("AmazonVPC", f"{fargate}VpcEndpoint-Hours"),
        "s3-standard": _usage("AmazonS3", f"{prefix}TimedStorage-ByteHrs"),
        "s3-standard-put": _usage("AmazonS3", f"{prefix}Requests-Tier1", 1_000),
        "s3-standard-get": _usage("AmazonS3", f"{prefix}Requests-Tier2", 1_000),
        "rds-postgresql-db.t4g.medium-single-az": Query(
            "AmazonRDS",
            {
                "instanceType": "db.t4g.medium", "regionCode": price.region, "databaseEngine": "PostgreSQL",
                "deploymentOption": "Single-AZ",
            },
        ),
        "cloudwatch-custom-metric": _usage("AmazonCloudWatch", f"{prefix}CW:MetricMonitorUsage"),
        "cloudwatch-alarm": _usage("AmazonCloudWatch", f"{prefix}CW:AlarmMonitorUsage"),
        "ecr-private-storage": _usage("AmazonECR", f"{prefix}TimedStorage-ByteHrs"),
        "secrets-manager-secret": _usage("AWSSecretsManager", f"{fargate}AWSSecretsManager-Secrets"),
    }  # fmt: skip
    return known.get(price.item)


def _on_demand(products: Iterator[str]) -> list[float]:
    """Return the first tier above 0 of each on-demand price in the API's answers."""
    found = []
    for text in products:
        for term in json.loads(text).get("terms", {}).get("OnDemand", {}).values():
            tiers = sorted(term["priceDimensions"].values(), key=lambda each: float(each.get("beginRange") or 0))
            paid = [float(each["pricePerUnit"].get("USD", 0)) for each in tiers]
            found += [value for value in paid if value > 0][:1]
    return sorted(set(found))


def refresh(prices: Prices, pricing: Any, ec2: Any, *, today: date) -> tuple[list[Price], list[str]]:
    """Return the table with AWS's current prices.

    A price is replaced only if AWS returns exactly one. After an empty or ambiguous answer the old price stays.

    Args:
        prices: the old table.
        pricing: a boto3 client of `pricing` (in us-east-1).
        ec2: a boto3 client of `ec2` in the table's region, for spot prices.
        today: date of the new prices.

    Returns:
        The new table, and a sentence for each old price that stays.

    Raises:
        botocore.exceptions.ClientError: AWS refuses; `BotoCoreError` if AWS cannot be reached.
    """
    pages = pricing.get_paginator("get_products")
    fresh, kept = [], []
    for price in prices.values():
        asked = query(price)
        found = [] if asked is None else _listed(pages, asked)
        if asked is None or len(found) != 1:
            kept.append(f"{price.item}: expected one price from AWS, got {len(found)}; the old one stays")
            fresh.append(price)
            continue
        usd = round(found[0] * asked.times, 9)
        spot_usd = _spot(ec2, price.item, today) if price.kind == "ec2" else None
        fresh.append(replace(price, usd=usd, spot_usd=spot_usd, source=_LISTED, source_date=today.isoformat()))
    return fresh, kept


def _listed(pages: Any, asked: Query) -> list[float]:
    filters = [{"Type": "TERM_MATCH", "Field": name, "Value": value} for name, value in asked.filters.items()]
    answers = pages.paginate(ServiceCode=asked.service, Filters=filters, FormatVersion="aws_v1")
    return _on_demand(text for page in answers for text in page["PriceList"])


def _spot(ec2: Any, instance: str, today: date) -> float | None:
    """Return the median over the zones of the newest spot price; None without one."""
    answer = ec2.describe_spot_price_history(
        InstanceTypes=[instance], ProductDescriptions=["Linux/UNIX"],
        StartTime=datetime(today.year, today.month, today.day, tzinfo=UTC) - timedelta(days=1),
    )  # fmt: skip
    newest: dict[str, tuple[datetime, float]] = {}
    for entry in answer["SpotPriceHistory"]:
        zone, at = entry["AvailabilityZone"], entry["Timestamp"]
        if zone not in newest or at > newest[zone][0]:
            newest[zone] = (at, float(entry["SpotPrice"]))
    return round(median(value for _, value in newest.values()), 6) if newest else None


def ask_aws(prices: Prices) -> tuple[list[Price], list[str]]:
    """Refresh the table with the credentials of the environment."""
    import boto3

    region = next(iter(prices.values())).region
    clients = boto3.client("pricing", region_name="us-east-1"), boto3.client("ec2", region_name=region)
    return refresh(prices, *clients, today=datetime.now(UTC).date())
