import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlite_node import engine_of

DISK_MIB = 48
SCRIPT = Path(__file__).with_name("full_disk.py")
_ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1] / "support")}


@pytest.fixture
def in_small_disk(tmp_path):
    """Prefix of a command that sees `tmp_path` as a small disk, in a mount that ends with it."""
    apart = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
    mount = f'mount -t tmpfs -o size={DISK_MIB}m none "{tmp_path}" && exec "$@"'
    prefix = [*apart, "sh", "-c", mount, "sh"]
    if subprocess.run([*prefix, "true"], capture_output=True).returncode:
        pytest.skip("mount namespaces are not allowed here; kit/tests/test_group_commit.py has the full disk by a VFS")
    return prefix


@pytest.mark.parametrize("engine", ["stock", "native"])
def test_a_full_disk_refuses_writes_and_nothing_else(in_small_disk, tmp_path, engine):
    engine_of(engine)
    command = [*in_small_disk, sys.executable, str(SCRIPT), str(tmp_path), engine]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=_ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen.pop("rows before the disk was full") > 500
    assert seen.pop("essential writes while full") == 5_000
    assert seen.pop("full again") > 500
    assert seen.pop("reserve held when full") is False
    assert all(seen.values()), seen
