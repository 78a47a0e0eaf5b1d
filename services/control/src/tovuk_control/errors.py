"""The facts control may report. Their texts are in the kit's catalogue."""

from tovuk_kit.errors import TovukError


class Unauthenticated(TovukError):
    """The token is unknown, expired, revoked, or of a service that is gone: one answer for all."""

    code = "unauthenticated"


class ForbiddenScope(TovukError):
    """The caller's scope does not allow this. Params: scope."""

    code = "forbidden_scope"


class RateLimited(TovukError):
    """The token's control calls of this minute are used up. Params: limit."""

    code = "rate_limited"


class AccountNotFound(TovukError):
    """There is no account of this id."""

    code = "account_not_found"


class InvalidHandle(TovukError):
    """The handle does not meet its grammar."""

    code = "invalid_handle"


class InvalidDisplayName(TovukError):
    """The display name is empty, too long, or has control characters."""

    code = "invalid_display_name"


class HandleTaken(TovukError):
    """Another account has the handle."""

    code = "handle_taken"


class InvalidPlan(TovukError):
    """There is no such plan."""

    code = "invalid_plan"


class TokenNotFound(TovukError):
    """The account has no token of this id."""

    code = "token_not_found"


class InvalidTokenRequest(TovukError):
    """The token cannot be made. Params: reason."""

    code = "invalid_token_request"


class TokenLimitReached(TovukError):
    """The account has as many living tokens as it may. Params: limit."""

    code = "token_limit_reached"


class ServiceNotFound(TovukError):
    """The account has no living service of this id or name; foreign ones look the same."""

    code = "service_not_found"


class InvalidServiceName(TovukError):
    """The name does not meet its grammar."""

    code = "invalid_service_name"


class InvalidServiceKind(TovukError):
    """There is no such kind of service."""

    code = "invalid_service_kind"


class InvalidCapabilities(TovukError):
    """Unknown capabilities, or such as do not fit the kind. Params: reason."""

    code = "invalid_capabilities"


class ServiceNameTaken(TovukError):
    """A living service of the account has the name."""

    code = "service_name_taken"


class ServiceLimitReached(TovukError):
    """The account has as many living services as its plan allows. Params: plan, limit."""

    code = "service_limit_reached"


class ServiceNotRestorable(TovukError):
    """A deleted service cannot come back. Params: reason."""

    code = "service_not_restorable"


class InvalidResourceName(TovukError):
    """The name does not meet its grammar."""

    code = "invalid_resource_name"


class ResourceNameTaken(TovukError):
    """A resource of the kind has the name or its environment suffix. Params: kind."""

    code = "resource_name_taken"


class ResourceLimitReached(TovukError):
    """The service has as many resources as it may. Params: limit."""

    code = "resource_limit_reached"


class ResourcePlanLimitReached(TovukError):
    """The account has as many resources of the kind as its plan allows. Params: plan, limit, kind."""

    code = "resource_plan_limit_reached"


class ReservationNotFound(TovukError):
    """The reservation was released, or its service purged, before it was confirmed."""

    code = "reservation_not_found"


class DatabaseNotFound(TovukError):
    """The service has no database of this id or name."""

    code = "sqlite_database_not_found"


class ShardOfOtherFolder(TovukError):
    """The shard's databases lie in another data folder than the claimant's. Params: shard."""

    code = "shard_of_other_folder"


class ShardNotFound(TovukError):
    """There is no shard of this name."""

    code = "shard_not_found"


class ShardOfOtherOwner(TovukError):
    """Another process has taken the shard over since."""

    code = "shard_of_other_owner"


class InvalidRequest(TovukError):
    """A request no well-behaved service sends. Params: reason."""

    code = "invalid_request"


class InvalidCursor(TovukError):
    """The cursor was not made for this list."""

    code = "invalid_cursor"


class InvalidLimit(TovukError):
    """The page limit is out of range. Params: minimum, maximum."""

    code = "invalid_limit"
