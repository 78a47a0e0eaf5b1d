"""Whether a NATS server keeps what it acknowledges. Source: design.md 4; decisions.md, NATS.

Its default syncs a stream only every two minutes, and says so nowhere but in its monitoring.
"""

import asyncio
import json
import urllib.error
import urllib.request
from urllib.parse import urlsplit

_MONITOR_TIMEOUT_S = 2.0
_READY_WITHIN_S = 30.0
_PAUSE_S = 0.02

#: Answers without JetStream until a server is taken to have none.
_LOOKS_MAX = 100


class UnsafePipe(Exception):
    """The NATS server may lose what it has acknowledged; the message is for the operator."""


class SilentPipe(Exception):
    """The NATS server has not answered in time; the message is for the operator."""


async def check_pipe(monitor_url: str) -> None:
    """Returns once the server answers at `<monitor_url>/varz` and syncs every message before it acknowledges it.

    Raises UnsafePipe when its settings are others, SilentPipe when it has not answered within 30 s.
    """
    if urlsplit(monitor_url).scheme not in {"http", "https"}:
        raise UnsafePipe(f"TOVUK_NATS_MONITOR_URL is not an http address: {monitor_url}")
    try:
        async with asyncio.timeout(_READY_WITHIN_S):
            jetstream = await _settings(monitor_url)
    except TimeoutError as problem:
        raise SilentPipe(f"NATS does not answer at {monitor_url}/varz") from problem
    if not jetstream.get("store_dir"):
        raise UnsafePipe(f"the NATS at {monitor_url} has no JetStream; start it with a store_dir on a durable disk")
    if not jetstream.get("sync_always"):
        raise UnsafePipe(
            f"the NATS at {monitor_url} acknowledges messages before they are on disk; "
            "set sync_interval: always in its jetstream block"
        )


async def _settings(monitor_url: str) -> dict[str, object]:
    """JetStream's, or none where the server has no JetStream."""
    looks = 0
    while True:
        try:
            found = await asyncio.to_thread(_varz, monitor_url)
        except (urllib.error.URLError, TimeoutError, ConnectionError, json.JSONDecodeError):
            pass
        else:
            settings: dict[str, object] = (
                found.get("jetstream", {}).get("config", {}) if isinstance(found, dict) else {}
            )
            looks += 1
            # The server answers here some moments before its JetStream has begun.
            if settings.get("store_dir") or looks == _LOOKS_MAX:
                return settings
        await asyncio.sleep(_PAUSE_S)


def _varz(monitor_url: str) -> object:
    address = monitor_url.rstrip("/") + "/varz"
    with urllib.request.urlopen(address, timeout=_MONITOR_TIMEOUT_S) as answer:  # noqa: S310 - the scheme is checked above
        return json.load(answer)
