"""The facts the gateway itself may report. Their texts are in the kit's catalogue."""

from tovuk_kit.errors import TovukError


class Unauthenticated(TovukError):
    """No token, or one that stands for nobody."""

    code = "unauthenticated"


class ForbiddenScope(TovukError):
    """The token's scope does not reach this call. Params: scope."""

    code = "forbidden_scope"


class NoSuchRoute(TovukError):
    """Nothing is at this path."""

    code = "not_found"


class MethodNotAllowed(TovukError):
    """The path exists, the method on it does not."""

    code = "method_not_allowed"


class InvalidPath(TovukError):
    """A segment is empty, a dot segment, not UTF-8 or badly encoded. Params: reason."""

    code = "invalid_path"


class InvalidRequest(TovukError):
    """A field or the request itself is malformed. Params: reason."""

    code = "invalid_request"


class InvalidJson(TovukError):
    """The body is not strict JSON. Params: reason."""

    code = "invalid_json"


class BodyTooLarge(TovukError):
    """The body, after decompression, exceeds the route's limit. Params: limit_bytes."""

    code = "body_too_large"


class HeaderTooLarge(TovukError):
    """The request line and headers exceed the limit."""

    code = "header_too_large"


class UnsupportedMediaType(TovukError):
    """The body is not JSON, or has an encoding this route does not take."""

    code = "unsupported_media_type"


class RequestTimeout(TovukError):
    """The request did not arrive in time."""

    code = "request_timeout"


class ServiceNotFound(TovukError):
    """The caller has no such service; foreign ones look the same."""

    code = "service_not_found"


class CapabilityDisabled(TovukError):
    """The service's capability is off. Params: capability."""

    code = "capability_disabled"


class InvalidLimit(TovukError):
    """A page limit is out of range. Params: minimum, maximum."""

    code = "invalid_limit"


class InvalidCapValue(TovukError):
    """A cap's value is no integer from 0 to 2^53 - 1."""

    code = "invalid_cap_value"


class InvalidNotifyThreshold(TovukError):
    """A notice's threshold is no integer from 1 to 100."""

    code = "invalid_notify_threshold"


class InvalidPeriod(TovukError):
    """A period other than day and month."""

    code = "invalid_period"


class KeyNotFound(TovukError):
    """The key is not in the namespace."""

    code = "kv_key_not_found"


class ValueInvalid(TovukError):
    """The value or its encoding is malformed. Params: reason."""

    code = "kv_value_invalid"


class ValueTooLarge(TovukError):
    """The decoded value exceeds 25 MiB. Params: limit_bytes."""

    code = "kv_value_too_large"


class MetadataInvalid(TovukError):
    """Metadata that is no JSON object."""

    code = "kv_metadata_invalid"


class ExpirationInvalid(TovukError):
    """An expiry that is malformed or given twice. Params: reason."""

    code = "kv_expiration_invalid"


class TtlTooShort(TovukError):
    """A time to live below the minimum. Params: minimum_seconds."""

    code = "kv_ttl_too_short"


class BulkTooMany(TovukError):
    """More keys than a bulk request takes. Params: operation, limit."""

    code = "kv_bulk_too_many"


class BulkInvalid(TovukError):
    """One entry of a bulk request is malformed. Params: index, reason."""

    code = "kv_bulk_invalid"


class KeyInvalid(TovukError):
    """A key that is no text, empty, or a dot segment."""

    code = "kv_key_invalid"


class ParametersInvalid(TovukError):
    """A parameter of a SQL statement is no value of SQL. Params: statement, reason."""

    code = "sqlite_parameters_invalid"


class BatchTooMany(TovukError):
    """A batch without statements, or with too many. Params: limit."""

    code = "sqlite_batch_too_many"


class RowsReadNotExact(TovukError):
    """A cap on rows read, where the engine cannot count them exactly. Params: metric."""

    code = "rows_read_not_exact"
