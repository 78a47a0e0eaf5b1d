import json
import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tovuk_kit import telemetry
from tovuk_kit.telemetry import configure, counter, histogram, render_metrics, request_id


@dataclass(frozen=True)
class Settings:
    log_level: str = "INFO"
    otel_endpoint: str | None = None


@pytest.fixture(autouse=True)
def root_logger_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_record_is_one_json_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure("kv", Settings())
    token = request_id.set("request_1")
    logging.getLogger("a.b").info("two\nlines %s", "é")
    request_id.reset(token)
    [line] = capsys.readouterr().err.splitlines()
    record = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", record.pop("at"))
    assert record == {
        "level": "INFO",
        "service": "kv",
        "logger": "a.b",
        "request_id": "request_1",
        "message": "two\nlines é",
    }


def test_exception_stays_on_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure("kv", Settings())
    try:
        raise ValueError("cause")
    except ValueError:
        logging.getLogger().exception("failed")
    [line] = capsys.readouterr().err.splitlines()
    assert "ValueError: cause" in json.loads(line)["exception"]


def test_fields_nobody_named_are_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    configure("kv", Settings())
    logging.getLogger().info("x", extra={"internal_key": "hunter2"})
    assert "hunter2" not in capsys.readouterr().err


def test_configuring_twice_logs_once(capsys: pytest.CaptureFixture[str]) -> None:
    configure("kv", Settings())
    configure("kv", Settings(log_level="WARNING"))
    logging.getLogger().info("quiet")
    logging.getLogger().warning("loud")
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_metrics_are_rendered_with_their_labels() -> None:
    counter("tovuk_client_calls_total", "kv", "/m", "OK").inc(3)
    histogram("tovuk_client_call_seconds", "kv", "/m").observe(0.003)
    text = render_metrics().decode()
    assert 'tovuk_client_calls_total{method="/m",service="kv",status="OK"} 3.0' in text
    assert 'tovuk_client_call_seconds_bucket{le="0.002",method="/m",service="kv"} 0.0' in text
    assert 'tovuk_client_call_seconds_bucket{le="0.005",method="/m",service="kv"} 1.0' in text


def test_nothing_of_opentelemetry_is_imported_while_tracing_is_off() -> None:
    program = """
import sys
from tovuk_kit import client, server, telemetry
class Settings:
    log_level, otel_endpoint = "INFO", None
telemetry.configure("kv", Settings())
print(sorted(name for name in sys.modules if name.startswith("opentelemetry")))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"


def test_spans_are_one_shared_nothing_while_tracing_is_off() -> None:
    assert telemetry.server_span("/a/B", ()) is telemetry.server_span("/c/D", ())
    with telemetry.client_span("kv", "/a/B") as metadata:
        assert metadata == ()
