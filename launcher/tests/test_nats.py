import asyncio
import json
import stat
from pathlib import Path

import pytest

from tovuk_launcher import nats
from tovuk_launcher.processes import Child, Program
from tovuk_launcher.refusals import Refusal


def _program(command: tuple[str, ...]) -> Program:
    return Program("nats", command, {}, 5.0)


async def test_the_nats_we_start_syncs_every_message_and_wants_the_credential(tmp_path: Path) -> None:
    found = nats.embedded(tmp_path, "credential-of-the-house")
    assert stat.S_IMODE((tmp_path / "nats.conf").stat().st_mode) == 0o600
    assert "credential-of-the-house" not in " ".join(found.command)
    child = Child(_program(found.command))
    try:
        await nats.check(found)
        port = int(found.url.rsplit(":", 1)[1])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        info = json.loads((await reader.readline()).removeprefix(b"INFO "))
        assert info["auth_required"] is True
        assert info["jetstream"] is True
        writer.close()
    finally:
        await child.stop()


@pytest.mark.parametrize(
    ("jetstream", "reason"),
    [('jetstream { store_dir: "%s" }', "sync_interval: always"), ("", "no JetStream")],
)
async def test_a_nats_that_may_lose_what_it_acknowledged_is_refused(
    tmp_path: Path, jetstream: str, reason: str
) -> None:
    ours = nats.embedded(tmp_path, "credential-of-the-house")
    port, monitor_port = ours.url.rsplit(":", 1)[1], ours.monitor_url.rsplit(":", 1)[1]
    path = tmp_path / "foreign.conf"
    store = jetstream % tmp_path if jetstream else ""
    path.write_text(f"host: 127.0.0.1\nport: {port}\nhttp: 127.0.0.1:{monitor_port}\n{store}\n")
    child = Child(_program((str(nats.binary()), "--config", str(path))))
    try:
        with pytest.raises(Refusal, match=reason):
            await nats.check(ours)
    finally:
        await child.stop()


async def test_a_monitor_address_that_is_no_http_address_is_refused() -> None:
    with pytest.raises(Refusal, match="TOVUK_NATS_MONITOR_URL"):
        await nats.check(nats.Nats("nats://127.0.0.1:4222", "file:///etc/passwd"))
