"""The engines' fixtures and the `proves` mark, in a pytest run of their own."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
END_SECONDS_MAX = 30


@pytest.fixture
def pytest_of(tmp_path):
    """Start pytest, with the workspace's conftest, over one file of this text."""

    def start(text, **environment):
        (tmp_path / "test_inner.py").write_text(text)
        options = ["-c", str(ROOT / "pyproject.toml"), "-p", "conftest", "-p", "no:cacheprovider", "-s"]
        command = [sys.executable, "-m", "pytest", *options, f"--rootdir={tmp_path}", str(tmp_path / "test_inner.py")]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)

    return start


@pytest.mark.parametrize(
    ("mark", "code"),
    [('"KV-001"', 0), ('"KV-001", "KV-999"', pytest.ExitCode.USAGE_ERROR), ("", pytest.ExitCode.USAGE_ERROR)],
)
def test_a_proof_of_an_unknown_sentence_stops_the_collection(pytest_of, mark, code):
    run = pytest_of(f"import pytest\n@pytest.mark.proves({mark})\ndef test_it(): pass\n")
    output, _ = run.communicate(timeout=60)
    assert run.returncode == code, output


@pytest.mark.parametrize(("ci", "word"), [("true", "1 error"), ("", "1 skipped")])
def test_a_missing_engine_fails_in_ci_and_is_named_elsewhere(pytest_of, tmp_path, ci, word):
    # No redis-server on an empty path, and no Docker behind this socket.
    run = pytest_of("def test_it(redis_url): pass\n", PATH=str(tmp_path), DOCKER_HOST=f"unix://{tmp_path}/none", CI=ci)
    output, _ = run.communicate(timeout=60)
    assert word in output
    if ci:
        assert "apt-get install redis-server" in output


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
def test_servers_end_when_the_tests_are_killed(pytest_of):
    run = pytest_of(
        "import time\n"
        "def test_it(postgres_url, redis_url, nats_url):\n"
        "    print('up', flush=True)\n"
        "    time.sleep(600)\n"
    )
    while (line := run.stdout.readline()) and not line.endswith("up\n"):
        pass
    assert line, "the servers did not start"
    servers = children(run.pid)
    assert len(servers) == 3
    run.send_signal(signal.SIGKILL)
    run.wait()
    end = time.monotonic() + END_SECONDS_MAX
    while alive := [pid for pid in servers if running(pid)]:
        assert time.monotonic() < end, f"still there: {alive}"
        time.sleep(0.05)


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
