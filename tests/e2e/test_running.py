"""How the product starts, stops, restarts what dies, and refuses what cannot work."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest
from product import Product

from tovuk_launcher.death import ON_LINUX

_BACK_WITHIN_S = 5.0
_GONE_WITHIN_S = 10.0
_IDLE_MIB_MAX = 90
#: What makes the product on one machine; a gateway process more for each two cores.
_PROCESSES = {"gateway", "control", "kv", "metering", "sqlite", "nats-server"}


def _alive(pid: int) -> bool:
    status = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
    return bool(status) and not status.startswith("Z")


def _wait_until_gone(pids: dict[str, int]) -> None:
    deadline = time.monotonic() + _GONE_WITHIN_S
    while left := {name: pid for name, pid in pids.items() if _alive(pid)}:
        assert time.monotonic() < deadline, f"still running: {left}"
        time.sleep(0.02)


def _pss_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def test_the_first_start_shows_the_token_and_how_to_use_it(own_tovuk: Product) -> None:
    wanted = ("ready after", f"TOVUK_TOKEN={own_tovuk.token}", f"tovuk --api {own_tovuk.url}")
    deadline = time.monotonic() + _GONE_WITHIN_S
    # The launcher itself polls for readiness and may see it a moment after the test.
    while missing := [text for text in wanted if text not in own_tovuk.log.read_text()]:
        assert time.monotonic() < deadline, f"never shown: {missing}"
        time.sleep(0.02)


def test_after_a_warm_start_what_was_written_is_there(own_tovuk: Product) -> None:
    service = own_tovuk.create_service("survivor")
    base = f"/v1/services/{service['id']}/kv"
    assert own_tovuk.request("POST", f"{base}/namespaces", json={"name": "CACHE"}).is_success
    assert own_tovuk.request("PUT", f"{base}/CACHE/values/k", json={"value": "v"}).is_success
    running = own_tovuk.processes()
    assert set(running) == _PROCESSES
    assert own_tovuk.stop() == 0
    _wait_until_gone(running)
    shown = own_tovuk.log.read_text().count("TOVUK_TOKEN=tovuk")
    own_tovuk.start()
    own_tovuk.wait_until_ready()
    assert own_tovuk.request("GET", f"{base}/CACHE/values/k").json()["value"] == "v"
    assert own_tovuk.log.read_text().count("TOVUK_TOKEN=tovuk") == shown, "a token is shown once"


def test_a_killed_launcher_leaves_no_child(own_tovuk: Product) -> None:
    running = own_tovuk.processes()
    assert set(running) == _PROCESSES
    own_tovuk.launcher.send_signal(signal.SIGKILL)
    own_tovuk.launcher.wait()
    _wait_until_gone(running)
    own_tovuk.start()  # and what it left behind does not hinder the next
    own_tovuk.wait_until_ready()


_TEST_RUN = """
import sys
from pathlib import Path
from product import Product
with Product.launched(Path(sys.argv[1])) as product:
    print(product.launcher.pid, *product.processes().values(), flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(not ON_LINUX, reason="PR_SET_PDEATHSIG is Linux's")
def test_a_killed_test_run_leaves_no_product(tmp_path: Path) -> None:
    support = str(Path(sys.modules[Product.__module__].__file__ or "").parent)
    with subprocess.Popen(
        [sys.executable, "-c", _TEST_RUN, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": support},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as run:
        assert run.stdout is not None
        pids = [int(pid) for pid in run.stdout.readline().split()]
        assert len(pids) > len(_PROCESSES)
        run.kill()
    _wait_until_gone({str(pid): pid for pid in pids})


@pytest.mark.parametrize("victim", sorted(_PROCESSES))
def test_a_killed_process_is_back_in_seconds_under_load(own_tovuk: Product, victim: str) -> None:
    service = own_tovuk.create_service("loaded")
    base = f"/v1/services/{service['id']}/kv"
    assert own_tovuk.request("POST", f"{base}/namespaces", json={"name": "CACHE"}).is_success
    stop = threading.Event()
    acknowledged: list[str] = []

    def write(worker: int) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            key = f"{worker}-{number}"
            try:
                with own_tovuk.api() as api:
                    while not stop.is_set() and api.put(f"{base}/CACHE/values/{key}", json={"value": key}).is_success:
                        acknowledged.append(key)
                        number += 1
                        key = f"{worker}-{number}"
            except httpx.TransportError:
                continue

    workers = [threading.Thread(target=write, args=(worker,)) for worker in range(4)]
    for worker in workers:
        worker.start()
    try:
        _wait_until_written(acknowledged, 50)
        os.kill(own_tovuk.processes()[victim], signal.SIGKILL)
        killed_at = time.monotonic()
        while True:
            try:
                before = len(acknowledged)
                put = own_tovuk.request("PUT", f"{base}/CACHE/values/probe", json={"value": "x"})
                usage = own_tovuk.request("GET", "/v1/usage")
                if put.is_success and usage.is_success and own_tovuk.processes().keys() == _PROCESSES:
                    break
            except httpx.TransportError:
                pass
            assert time.monotonic() - killed_at < _BACK_WITHIN_S, own_tovuk.log.read_text()[-4000:]
            time.sleep(0.02)
        _wait_until_written(acknowledged, before + 50)
    finally:
        stop.set()
        for worker in workers:
            worker.join()
    with own_tovuk.api() as api:
        lost = [key for key in acknowledged if api.get(f"{base}/CACHE/values/{key}").status_code != 200]
    assert lost == []


def _wait_until_written(acknowledged: list[str], count: int) -> None:
    deadline = time.monotonic() + 30
    while len(acknowledged) < count:
        assert time.monotonic() < deadline, f"only {len(acknowledged)} of {count} writes"
        time.sleep(0.01)


def test_usage_survives_a_wiped_nats(own_tovuk: Product) -> None:
    service = own_tovuk.create_service("wiped")
    base = f"/v1/services/{service['id']}/kv"
    assert own_tovuk.request("POST", f"{base}/namespaces", json={"name": "CACHE"}).is_success
    written = 0
    for _ in range(3):
        for _ in range(50):
            written += 1
            assert own_tovuk.request("PUT", f"{base}/CACHE/values/k{written}", json={"value": "v"}).is_success
        store = own_tovuk.data / "nats"
        deadline = time.monotonic() + 30
        # The one before was killed, too.
        while (nats := own_tovuk.processes().get("nats-server")) is None or not store.exists():
            assert time.monotonic() < deadline, "NATS is not started again"
            time.sleep(0.05)
        os.kill(nats, signal.SIGKILL)
        wiped = store.rename(store.with_name(f"nats-{written}"))
        assert wiped.exists()
    deadline = time.monotonic() + 30
    while (metered := own_tovuk.request("GET", "/v1/usage").json()["usage"]["meters"]["day"]["kv_writes"]) != written:
        assert metered <= written
        assert time.monotonic() < deadline, f"{metered} of {written} writes are metered"
        time.sleep(0.05)


def test_a_second_launcher_on_the_same_data_or_port_is_refused(tovuk: Product, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
    taken = tovuk.url.rsplit(":", 1)[1]
    for data, port, said in (
        (tovuk.data, str(free), "in use by another tovuk"),
        (tmp_path, taken, f"port {taken} on"),
    ):
        refused = subprocess.run(
            [Path(sys.executable).parent / "tovuk"],
            env={**os.environ, "TOVUK_DATA_DIR": str(data), "TOVUK_PORT": port},
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert refused.returncode == 1
        assert said in refused.stderr
        assert "Traceback" not in refused.stderr
    assert tovuk.request("GET", "/v1/usage").is_success


def test_wrong_settings_of_a_service_end_the_start_with_their_names(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
    refused = subprocess.run(
        [Path(sys.executable).parent / "tovuk"],
        env={**os.environ, "TOVUK_DATA_DIR": str(tmp_path), "TOVUK_PORT": str(free), "TOVUK_LOG_LEVEL": "LOUD"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert refused.returncode == 1
    assert "TOVUK_LOG_LEVEL" in refused.stderr
    assert "refuses its settings" in refused.stderr


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="PSS is read from Linux' /proc")
def test_an_idle_process_is_small(own_tovuk: Product) -> None:
    sizes = {name: _pss_mib(pid) for name, pid in own_tovuk.processes().items()}
    assert sizes.keys() == _PROCESSES
    assert {name: round(size) for name, size in sizes.items() if size >= _IDLE_MIB_MAX} == {}


def test_secrets_lie_in_no_log_and_in_no_public_file(own_tovuk: Product) -> None:
    key = (own_tovuk.data / "internal.key").read_text()
    assert key not in own_tovuk.log.read_text()
    readable = [path for path in own_tovuk.data.rglob("*") if path.is_file() and path.stat().st_mode & 0o077]
    secret = [
        path for path in readable if key.encode() in path.read_bytes() or own_tovuk.token.encode() in path.read_bytes()
    ]
    assert secret == []
    commands = subprocess.run(["ps", "-ww", "-eo", "args"], capture_output=True, text=True).stdout
    assert key not in commands and own_tovuk.token not in commands
