"""Every target and limit by name, in the order of the tables."""

from bench.limits import LIMITS, Limit
from bench.targets.base import Target
from bench.targets.constant import CONSTANT
from bench.targets.databases import CROWDED, DATABASES
from bench.targets.miniflare import MINIFLARE, MINIFLARE_D1
from bench.targets.naive import NAIVE, NAIVE_GROUPED
from bench.targets.ours import OURS
from bench.targets.webdis import WEBDIS

TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        *(*OURS, WEBDIS, MINIFLARE, NAIVE, NAIVE_GROUPED, CONSTANT),
        *(DATABASES, CROWDED, MINIFLARE_D1),
    )
}
LIMIT_BY_NAME: dict[str, Limit] = {limit.name: limit for limit in LIMITS}
NAMES: tuple[str, ...] = (*TARGETS, *LIMIT_BY_NAME)
