"""Whether a NATS server keeps what it acknowledges. Source: design.md 4; decisions.md, NATS.

Its default syncs a stream only every two minutes, and says so nowhere but in its monitoring.
"""

import asyncio
import http.client
import json
import urllib.request
from urllib.parse import urlsplit

_MONITOR_TIMEOUT_S = 2.0
_READY_WITHIN_S = 30.0
_PAUSE_S = 0.02


class UnsafePipe(Exception):
    """The NATS server may lose what it has acknowledged; the message is for the operator."""


class SilentPipe(Exception):
    """The NATS server has not answered in time; the message is for the operator."""


async def check_pipe(monitor_url: str) -> None:
    """Returns once the server is healthy and syncs every message before it acknowledges it.

    Raises UnsafePipe when its settings are others, SilentPipe when it is not healthy within 30 s.
    """
    if urlsplit(monitor_url).scheme not in {"http", "https"}:
        raise UnsafePipe(f"TOVUK_NATS_MONITOR_URL is not an http address: {monitor_url}")
    try:
        async with asyncio.timeout(_READY_WITHIN_S):
            jetstream = await _settings(monitor_url)
    except TimeoutError as problem:
        raise SilentPipe(f"the NATS at {monitor_url} is not healthy") from problem
    if not jetstream.get("store_dir"):
        raise UnsafePipe(f"the NATS at {monitor_url} has no JetStream; start it with a store_dir on a durable disk")
    if not jetstream.get("sync_always"):
        raise UnsafePipe(
            f"the NATS at {monitor_url} acknowledges messages before they are on disk; "
            "set sync_interval: always in its jetstream block"
        )


async def _settings(monitor_url: str) -> dict[str, object]:
    """JetStream's, or none where the server has no JetStream."""
    while True:
        try:
            # Healthy is: all it is configured to do has begun. /varz answers earlier, and then without JetStream.
            await asyncio.to_thread(_read, monitor_url, "/healthz?js-enabled-only=true")
            found = await asyncio.to_thread(_read, monitor_url, "/varz")
        except (OSError, http.client.HTTPException, json.JSONDecodeError):
            await asyncio.sleep(_PAUSE_S)
        else:
            return found.get("jetstream", {}).get("config", {}) if isinstance(found, dict) else {}


def _read(monitor_url: str, path: str) -> object:
    address = monitor_url.rstrip("/") + path
    with urllib.request.urlopen(address, timeout=_MONITOR_TIMEOUT_S) as answer:  # noqa: S310 - the scheme is checked above
        return json.load(answer)
