"""What this service refuses, as facts; their texts are in the kit's catalogue."""

from tovuk_kit.errors import TovukError


class InvalidMetric(TovukError):
    """The name is not one of the 24 meters."""

    code = "invalid_metric"


class InvalidPeriod(TovukError):
    """The period is neither day nor month."""

    code = "invalid_period"


class InvalidCapValue(TovukError):
    """The cap's value is outside 0 to 2^53 - 1."""

    code = "invalid_cap_value"


class InvalidNotifyThreshold(TovukError):
    """The notification threshold is outside 1 to 100."""

    code = "invalid_notify_threshold"


class InvalidPlan(TovukError):
    """The price book has no plan of this name."""

    code = "invalid_plan"


class CapNotFound(TovukError):
    """The account has no cap on this meter and period."""

    code = "cap_not_found"


class CapNotSettled(TovukError):
    """The cap is stored, but a live holder has not given its units back in time."""

    code = "cap_not_settled"
