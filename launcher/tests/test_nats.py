import asyncio
import json
import stat
from pathlib import Path

from tovuk_kit.pipe import check_pipe
from tovuk_launcher import nats
from tovuk_launcher.processes import Child, Program


def _program(command: tuple[str, ...]) -> Program:
    return Program("nats", command, {}, 5.0)


async def test_the_nats_we_start_syncs_every_message_and_wants_the_credential(tmp_path: Path) -> None:
    found = nats.embedded(tmp_path, "credential-of-the-house")
    assert stat.S_IMODE((tmp_path / "nats.conf").stat().st_mode) == 0o600
    assert "credential-of-the-house" not in " ".join(found.command)
    child = Child(_program(found.command))
    try:
        await check_pipe(found.monitor_url)
        port = int(found.url.rsplit(":", 1)[1])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        info = json.loads((await reader.readline()).removeprefix(b"INFO "))
        assert info["auth_required"] is True
        assert info["jetstream"] is True
        writer.close()
    finally:
        await child.stop()
