"""Control's limits, each with its source; the unit stands in the name."""

from typing import Final, Literal, get_args

Plan = Literal["free", "pro", "self_hosted"]

PLANS: Final[tuple[Plan, ...]] = get_args(Plan)

#: Living services of an account by plan: the price book's `projects`. Source: product-facts 3 (a); decisions, Usage.
SERVICES_MAX: Final[dict[Plan, int]] = {"free": 100, "pro": 500, "self_hosted": 1_000_000}

#: Resources of a kind by plan, over all living services of an account; a pair that is missing has no limit.
#: Source: product-facts 3 (a), SQLite databases.
PLAN_RESOURCES_MAX: Final[dict[tuple[Plan, str], int]] = {("free", "sqlite_database"): 10}

#: Resources of a service. Source: resources, "Each service can bind up to 5000 service resources".
SERVICE_RESOURCES_MAX: Final = 5_000

#: Source: decisions, Deletion of a service is undoable.
SERVICE_UNDO_MS: Final = 72 * 3_600_000

#: Source: decisions, Rate limits.
CONTROL_CALLS_PER_MINUTE_MAX: Final = 1_200

#: Living tokens of an account. Source: own choice; the plans' `apiTokens` is unknown.
TOKENS_MAX: Final = 100
TOKEN_LABEL_CHARACTERS_MAX: Final = 100
TOKEN_EXPIRY_SECONDS_MAX: Final = 10 * 366 * 86_400
#: How long a revoked or expired token's row is kept, so that revoking it again is answered the same way.
TOKEN_REMAINS_MS: Final = 72 * 3_600_000

DISPLAY_NAME_CHARACTERS_MAX: Final = 100

#: Activity entries kept for an account; older ones are forgotten. Source: own choice.
ACTIVITY_ENTRIES_MAX: Final = 10_000
ACTIVITY_DETAILS_BYTES_MAX: Final = 4_096

PAGE_MIN: Final = 1
PAGE_MAX: Final = 100
PAGE_DEFAULT: Final = 50

#: Age at which a reservation that is neither confirmed nor released is shown to its owner for settlement.
UNSETTLED_MS: Final = 60_000
#: Rows in one answer of the registry's lists; the owner asks again after settling them.
REGISTRY_PAGE: Final = 1_000

#: The longest a claim of a shard may hold: so long a takeover by another machine would wait. Source: own choice.
SHARD_CLAIM_MS_MAX: Final = 3_600_000

#: Moves in one answer; a shard asks again once they are done.
MOVES_PAGE: Final = 100

#: Services in one page of a listing; the gateway asks for pages until it has them all.
SERVICES_PAGE: Final = 2_000
