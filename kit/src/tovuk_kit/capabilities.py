"""The 17 things a service may be able to do, in the published client's order. Source: contract 5.2."""

from typing import Final

CAPABILITIES: Final = (
    "static_frontend",
    "worker",
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
    "billing",
    "support",
    "abuse",
)
