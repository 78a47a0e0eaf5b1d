"""Large values as files, on a disk of their own that fills up."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

DISK_MIB = 40
SCRIPT = Path(__file__).with_name("full_disk.py")


@pytest.fixture
def in_small_disk(tmp_path: Path) -> list[str]:
    """Prefix of a command that sees `tmp_path` as a small disk, in a mount that ends with it."""
    apart = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
    mount = f'mount -t tmpfs -o size={DISK_MIB}m none "{tmp_path}" && exec "$@"'
    prefix = [*apart, "sh", "-c", mount, "sh"]
    if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode:
        pytest.skip("mount namespaces are not allowed here")
    return prefix


def test_a_full_disk_refuses_large_values_and_leaves_nothing_behind(in_small_disk: list[str], tmp_path: Path) -> None:
    command = [*in_small_disk, sys.executable, str(SCRIPT), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen.pop("values stored") > 5
    assert all(seen.values()), seen
