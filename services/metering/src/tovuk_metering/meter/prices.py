"""The price book: plans, limits, prices and products, read from `price_book.toml` and checked whole at start."""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Self

from tovuk_kit.meters import METER_NAMES, METERS, PERIODS, UNITS_MAX, Counting, Period

#: The capability keys that are products, in the order people read them.
PRODUCT_KEYS = (
    "worker",
    "static_frontend",
    "sqlite",
    "object_storage",
    "kv",
    "state",
    "queue",
    "cron",
    "service_bindings",
    "secrets",
    "custom_domains",
    "logs",
    "builds",
    "usage_caps",
)
PLAN_NAMES = ("free", "pro", "self_hosted")
SOURCES = ("doc", "design")

#: A plan's pricing: a tree of figures.
Pricing = Mapping[str, Any]


class PriceBookInvalid(ValueError):
    """The price book contradicts itself; the message lists every problem."""


@dataclass(frozen=True, slots=True)
class MeterLimit:
    """A plan's hard limit of one meter over one period."""

    meter: str
    period: Period
    units: int


@dataclass(frozen=True, slots=True)
class Plan:
    """One plan: `limits` by field, None for no limit; `pricing` as a tree; its limits that meters obey."""

    name: str
    title: str
    limits: Mapping[str, int | None]
    pricing: Pricing
    meter_limits: tuple[MeterLimit, ...]

    def figure(self, path: str) -> Any:
        """The figure at a dotted path such as `pricing.subscriptionUsdCentsPerMonth`; KeyError when it is absent."""
        found: Any = {"limits": self.limits, "pricing": self.pricing}
        for part in path.split("."):
            found = found[part]
        return found

    def as_json(self) -> dict[str, Any]:
        """The plan as the catalogue shows it."""
        return {"key": self.name, "name": self.title, "limits": dict(self.limits), "pricing": self.pricing}


@dataclass(frozen=True, slots=True)
class Price:
    """How a meter is billed: one price pays for `units` of what is beyond the included units; free meters have none."""

    meter: str
    billing_unit: str
    units: int
    #: Dotted paths within a plan; empty for a free meter.
    included: str
    price: str


@dataclass(frozen=True, slots=True)
class Product:
    """One product of the catalogue."""

    key: str
    best_for: str
    avoid_for: str
    features: tuple[str, ...]
    meters: tuple[str, ...]
    limit_fields: tuple[str, ...]
    pricing_fields: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """The product as the catalogue shows it. Source: contract.md 4.11; seeds, Product catalog."""
        return {
            "key": self.key,
            "best_for": self.best_for,
            "avoid_for": self.avoid_for,
            "features": list(self.features),
            "meters": list(self.meters),
            "meter_details": [_meter_details(meter) for meter in self.meters],
            "limit_fields": list(self.limit_fields),
            "pricing_fields": list(self.pricing_fields),
        }


def _meter_details(name: str) -> dict[str, Any]:
    meter = METERS[name]
    command = f"tovuk limits set {name} --period {{}} --value <value> --notify-at-percent 80 --json"
    return {
        "name": name,
        "unit": meter.unit,
        "description": meter.description,
        "cap_commands": {period: command.format(period) for period in PERIODS},
    }


@dataclass(frozen=True, slots=True)
class PriceBook:
    """All of it."""

    plans: Mapping[str, Plan]
    prices: Mapping[str, Price]
    products: tuple[Product, ...]

    @classmethod
    def load(cls, text: str | None = None) -> Self:
        """The book that comes with the service, or `text`. Raises PriceBookInvalid."""
        raw = tomllib.loads(
            files("tovuk_metering").joinpath("price_book.toml").read_text("utf-8") if text is None else text
        )
        problems = list(_source_problems(raw["plans"], "plans"))
        if problems:
            raise PriceBookInvalid("; ".join(problems))
        book = cls(
            {name: _plan(name, raw) for name in raw["plans"]},
            {
                meter: Price(
                    meter,
                    price["billing_unit"],
                    price.get("units", 1),
                    price.get("included", ""),
                    price.get("price", ""),
                )
                for meter, price in raw["prices"].items()
            },
            tuple(_product(product) for product in raw["products"]),
        )
        problems = [*_meter_limit_problems(raw, book), *_price_problems(book), *_product_problems(book)]
        if problems:
            raise PriceBookInvalid("; ".join(problems))
        return book

    def plan(self, name: str) -> Plan:
        """A plan that is in the book; KeyError otherwise."""
        return self.plans[name]

    def product_of(self, meter: str) -> str:
        """The first product that has the meter."""
        return next(product.key for product in self.products if meter in product.meters)


def _plan(name: str, raw: dict[str, Any]) -> Plan:
    plan = raw["plans"][name]
    limits = {
        field: None if limit["value"] == "unlimited" else limit["value"] for field, limit in plan["limits"].items()
    }
    pricing = raw["plans"][plan["pricing_of"]]["pricing"] if "pricing_of" in plan else plan["pricing"]
    meter_limits = tuple(
        MeterLimit(bound["meter"], bound["period"], limit * bound["units"])
        for field, bound in raw["meter_limits"].items()
        if (limit := limits.get(field)) is not None
    )
    return Plan(name, plan["title"], limits, _values(pricing), meter_limits)


def _values(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The tree with each figure in the place of its {value, source}."""
    return {name: child["value"] if "value" in child else _values(child) for name, child in tree.items()}


def _product(raw: dict[str, Any]) -> Product:
    return Product(
        raw["key"],
        raw["best_for"],
        raw["avoid_for"],
        tuple(raw["features"]),
        METER_NAMES if raw["meters"] == ["*"] else tuple(raw["meters"]),
        tuple(raw["limit_fields"]),
        tuple(raw["pricing_fields"]),
    )


def _source_problems(tree: Mapping[str, Any], place: str) -> Iterator[str]:
    for name, child in tree.items():
        where = f"{place}.{name}"
        if not isinstance(child, dict):
            if name not in ("title", "pricing_of"):
                yield f"{where} does not say where it comes from"
        elif "value" not in child:
            yield from _source_problems(child, where)
        elif child.get("source") not in SOURCES:
            yield f"{where} has no source"
        elif child["value"] != "unlimited" and not _is_figure(child["value"]):
            yield f"{where} is neither a whole number nor unlimited"


def _is_figure(value: object) -> bool:
    return isinstance(value, int) and 0 <= value <= UNITS_MAX


def _meter_limit_problems(raw: dict[str, Any], book: PriceBook) -> Iterator[str]:
    if set(book.plans) != set(PLAN_NAMES):
        yield f"the plans are not {', '.join(PLAN_NAMES)}"
    fields = {frozenset(plan.limits) for plan in book.plans.values()}
    if len(fields) != 1:
        yield "the plans do not have the same limits"
    for field, bound in raw["meter_limits"].items():
        if bound["meter"] not in METERS or bound["period"] not in PERIODS:
            yield f"meter_limits.{field} names no meter or no period"
        if any(field not in plan.limits for plan in book.plans.values()):
            yield f"meter_limits.{field} is no limit of every plan"


def _price_problems(book: PriceBook) -> Iterator[str]:
    if set(book.prices) != set(METER_NAMES):
        yield "the prices are not those of the 24 meters"
    for price in book.prices.values():
        level = METERS[price.meter].counting is Counting.LEVEL if price.meter in METERS else False
        if price.units < 1 or level != (price.billing_unit == "gb_month"):
            yield f"prices.{price.meter} has the wrong billing unit"
        for plan in book.plans.values():
            for path in (price.included, price.price):
                if path and not _resolves(plan, path):
                    yield f"prices.{price.meter}: {path} is not a figure of {plan.name}"


def _product_problems(book: PriceBook) -> Iterator[str]:
    if tuple(product.key for product in book.products) != PRODUCT_KEYS:
        yield f"the products are not {', '.join(PRODUCT_KEYS)}, in this order"
    for product in book.products:
        for meter in product.meters:
            if meter not in METERS:
                yield f"{product.key} has the meter {meter}, which there is not"
        for plan in book.plans.values():
            yield from (
                f"{product.key}: {field} is no limit of {plan.name}"
                for field in product.limit_fields
                if field not in plan.limits
            )
            yield from (
                f"{product.key}: {path} is not a figure of {plan.name}"
                for path in product.pricing_fields
                if not _resolves(plan, path)
            )
    for meter in METER_NAMES:
        if not any(meter in product.meters for product in book.products if product.key != "usage_caps"):
            yield f"no product has the meter {meter}"


def _resolves(plan: Plan, path: str) -> bool:
    try:
        return _is_figure(plan.figure(path))
    except (KeyError, TypeError):
        return False
