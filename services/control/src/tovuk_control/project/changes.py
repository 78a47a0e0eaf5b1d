"""Change notices: something others may have cached is different now. A lost notice costs seconds, no more."""

from collections.abc import Callable
from typing import Final

#: Sends one notice, subject and payload; it never fails and never waits.
Publish = Callable[[str, bytes], None]

TOKENS: Final = "tovuk.changed.tokens"
SHARDS: Final = "tovuk.changed.shards"


def token_changed(publish: Publish, sha256: str) -> None:
    """A token was revoked; the payload is its SHA-256 in hexadecimal."""
    publish(TOKENS, sha256.encode())


def callers_changed(publish: Publish) -> None:
    """Any token may stand for another caller now: an account's plan or a runtime token's service has changed."""
    publish(TOKENS, b"")


def services_changed(publish: Publish, account_id: str) -> None:
    """A service of the account was created, deleted or restored."""
    publish(f"tovuk.changed.services.{account_id}", b"")


def shards_changed(publish: Publish) -> None:
    """Another process has taken a shard over."""
    publish(SHARDS, b"")


def placements_changed(publish: Publish, service_id: str) -> None:
    """A database of the service has moved."""
    publish(f"tovuk.changed.placements.{service_id}", b"")
