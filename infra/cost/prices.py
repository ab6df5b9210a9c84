"""Price table of AWS, each price with its source and date, or `unverified`."""

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Final

UNVERIFIED: Final = "unverified"


@dataclass(frozen=True, kw_only=True)
class Price:
    """Price in US dollars per unit, without free tiers, discounts and tax. `spot_usd` is None without a spot market."""

    item: str
    kind: str
    unit: str
    usd: float
    spot_usd: float | None = None
    vcpus: float | None = None
    memory_gb: float | None = None
    accelerator: str | None = None
    arch: str | None = None
    region: str = "us-east-1"
    source: str = ""
    source_date: str = ""

    @property
    def status(self) -> str:
        """`sourced`, or `unverified` without a source."""
        return "sourced" if self.source else UNVERIFIED

    def at(self, *, spot: bool) -> float | None:
        """Return the price on the spot market or on demand; None without one."""
        return self.spot_usd if spot else self.usd


Prices = Mapping[str, Price]


class MissingPriceError(ValueError):
    """Price table without a price of an item; the message names the item."""


class PriceTable(dict[str, Price]):
    """Prices by item, in the file's order."""

    def __missing__(self, item: str) -> Price:
        raise MissingPriceError(f"the price table has no price of {item}; add it, or use a complete table")


def read_prices(path: Path | None = None) -> PriceTable:
    """Read the table of a file, or the one of the package.

    Raises:
        ValueError: a price is not a number above 0, or an item is listed twice; the message names the line.
        OSError: the file cannot be read.
    """
    text = (
        path.read_text(encoding="utf-8")
        if path is not None
        else (resources.files("infra.cost") / "prices.csv").read_text(encoding="utf-8")
    )
    prices = PriceTable()
    for number, row in enumerate(csv.DictReader(io.StringIO(text)), start=2):
        try:
            price = _price(row)
        except (KeyError, TypeError, ValueError):
            raise ValueError(f"prices line {number}: expected item, kind, unit and usd, prices as numbers") from None
        if price.usd <= 0 or price.item in prices:
            raise ValueError(f"prices line {number}: expected a price above 0 and each item once, got {price.item}")
        prices[price.item] = price
    return prices


def _price(row: Mapping[str, str]) -> Price:
    def number(name: str) -> float | None:
        return float(row[name]) if row[name] else None

    return Price(
        item=row["item"], kind=row["kind"], unit=row["unit"], usd=float(row["usd"]), spot_usd=number("spot_usd"),
        vcpus=number("vcpus"), memory_gb=number("memory_gb"), accelerator=row["accelerator"] or None,
        arch=row["arch"] or None, region=row["region"], source=row["source"], source_date=row["source_date"],
    )  # fmt: skip


def write_prices(prices: Iterable[Price], path: Path) -> None:
    """Write a table that `read_prices` reads."""
    names = [field.name for field in fields(Price)]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [*names, "status"], lineterminator="\n")
        writer.writeheader()
        for price in prices:
            plain = {name: f"{value:g}" if isinstance(value, float) else value for name, value in asdict(price).items()}
            plain |= {"usd": repr(price.usd), "status": price.status}
            writer.writerow(plain | {"spot_usd": "" if price.spot_usd is None else repr(price.spot_usd)})


def core_usd_per_million(prices: Prices, *, rows_per_s: float) -> float:
    """Return US dollars per million predictions of a busy Fargate ARM vCPU with 2 GB that scores `rows_per_s`.

    Raises:
        MissingPriceError: the table lacks its prices.
    """
    return task_hour(prices, vcpus=1, memory_gb=2, arch="arm64") / 3600 / rows_per_s * 1e6


def task_hour(prices: Prices, *, vcpus: float, memory_gb: float, arch: str) -> float:
    """Return the US dollars per hour of a Fargate task. `arch` is arm64 or x86_64.

    Raises:
        MissingPriceError: the table lacks Fargate's prices of that architecture.
    """
    short = "arm" if arch == "arm64" else "x86"
    return vcpus * prices[f"fargate-linux-{short}-vcpu"].usd + memory_gb * prices[f"fargate-linux-{short}-gb"].usd
