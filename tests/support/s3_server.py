"""A real S3 server on files, of a test's own."""

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

_TOOLS = Path.home() / ".cache/tovuk-tools/bin"
KEY, SECRET = "key", "secret/+"


class S3Server:
    """A real server on files, which checks signatures; the test may end it and start it again."""

    def __init__(self, folder: Path) -> None:
        binary = shutil.which("versitygw", path=f"{os.environ['PATH']}:{_TOOLS}")
        if binary is None:
            missing = "versitygw is missing: GOBIN=~/.cache/tovuk-tools/bin go install its module, as .ci/run does"
            if os.environ.get("CI") == "true":
                pytest.fail(missing)
            pytest.skip(missing)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self._command = [binary, "--port", f"127.0.0.1:{self._port}", "--access", KEY, "--secret", SECRET, "--quiet"]
        self._command += ["posix", "--sidecar", str(folder / "meta"), str(folder / "objects")]
        for name in ("meta", "objects"):
            (folder / name).mkdir()
        self.url = f"s3+http://{KEY}:secret%2F%2B@127.0.0.1:{self._port}/bucket/some/prefix"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self._port), timeout=1).close()
            except OSError:
                assert self._process.poll() is None and time.monotonic() < deadline
                time.sleep(0.02)
            else:
                return

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
