"""The facts KV refuses a request for. Their texts are in the kit's catalogue.

TovukError
├── NamespaceNotFound, KeyNotFound, ServiceNotFound
├── KeyInvalid, KeyTooLarge, ValueInvalid, ValueTooLarge, MetadataInvalid, MetadataTooLarge
├── TtlTooShort, ExpirationInvalid, PreconditionFailed
├── InvalidCursor, InvalidLimit, InvalidResourceName, ResourceNameTaken
└── BulkTooMany, BulkInvalid, BodyTooLarge
"""

from tovuk_kit.errors import TovukError


class NamespaceNotFound(TovukError):
    """No such namespace in the service, or not the caller's: one answer for both."""

    code = "kv_namespace_not_found"


class ServiceNotFound(TovukError):
    """The service was purged."""

    code = "service_not_found"


class KeyNotFound(TovukError):
    """The key is absent or expired; the read was counted."""

    code = "kv_key_not_found"


class KeyInvalid(TovukError):
    """A key is UTF-8, not empty, and neither `.` nor `..`."""

    code = "kv_key_invalid"


class KeyTooLarge(TovukError):
    """Params: limit_bytes, size_bytes."""

    code = "kv_key_too_large"


class ValueInvalid(TovukError):
    """Params: reason."""

    code = "kv_value_invalid"


class ValueTooLarge(TovukError):
    """Params: limit_bytes."""

    code = "kv_value_too_large"


class MetadataInvalid(TovukError):
    """Metadata is a JSON object."""

    code = "kv_metadata_invalid"


class MetadataTooLarge(TovukError):
    """Params: limit_bytes, size_bytes."""

    code = "kv_metadata_too_large"


class TtlTooShort(TovukError):
    """Params: minimum_seconds."""

    code = "kv_ttl_too_short"


class ExpirationInvalid(TovukError):
    """Params: reason."""

    code = "kv_expiration_invalid"


class PreconditionFailed(TovukError):
    """If-Match or If-None-Match does not hold; nothing was changed or counted."""

    code = "kv_precondition_failed"


class InvalidCursor(TovukError):
    """The cursor was not given by this list."""

    code = "invalid_cursor"


class InvalidLimit(TovukError):
    """Params: minimum, maximum."""

    code = "invalid_limit"


class InvalidResourceName(TovukError):
    """The name cannot be a resource's. Source: decisions.md, Names and ids."""

    code = "invalid_resource_name"


class BulkTooMany(TovukError):
    """Params: operation, limit."""

    code = "kv_bulk_too_many"


class BulkInvalid(TovukError):
    """Params: index, reason."""

    code = "kv_bulk_invalid"


class BodyTooLarge(TovukError):
    """Params: limit_bytes."""

    code = "body_too_large"


class ResourceNameTaken(TovukError):
    """Params: kind."""

    code = "resource_name_taken"
