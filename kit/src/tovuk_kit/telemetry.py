"""Logs, metrics and traces of a service.

Logs are JSON, one record a line, on stderr. Metrics are Prometheus text, served by the ops endpoint. Traces exist only
when a collector is named: nothing of OpenTelemetry is imported before.
"""

import json
import logging
import sys
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from functools import cache
from typing import Literal, Protocol

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest

#: The id of the request being answered, from the gateway through every service; empty outside requests.
request_id: ContextVar[str] = ContextVar("request_id", default="")

CounterName = Literal[
    "tovuk_server_calls_total",
    "tovuk_client_calls_total",
    "tovuk_channel_operations_total",
    "tovuk_channel_frames_total",
    "tovuk_channel_streams_total",
    "tovuk_http_requests_total",
]
HistogramName = Literal["tovuk_server_call_seconds", "tovuk_client_call_seconds", "tovuk_http_request_seconds"]
MetricName = CounterName | HistogramName

_COUNTERS: dict[CounterName, tuple[str, tuple[str, ...]]] = {
    "tovuk_server_calls_total": ("gRPC calls answered.", ("method", "status")),
    "tovuk_client_calls_total": ("gRPC calls made.", ("service", "method", "status")),
    "tovuk_channel_operations_total": ("Operations sent in frames.", ("service",)),
    "tovuk_channel_frames_total": ("Frames sent.", ("service",)),
    "tovuk_channel_streams_total": ("Streams opened for frames, the first included.", ("service",)),
    "tovuk_http_requests_total": ("HTTP requests answered.", ("route", "status")),
}
_HISTOGRAMS: dict[HistogramName, tuple[str, tuple[str, ...]]] = {
    "tovuk_server_call_seconds": ("Seconds a gRPC call took to answer.", ("method",)),
    "tovuk_client_call_seconds": ("Seconds a gRPC call took, repeats included.", ("service", "method")),
    "tovuk_http_request_seconds": ("Seconds an HTTP request took to answer.", ("route",)),
}

#: From half a millisecond, the cost of a local call, to the longest deadline.
_BUCKETS_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)

_registry = CollectorRegistry()
ProcessCollector(registry=_registry)


_HANDLER_NAME = "tovuk"


class TelemetrySettings(Protocol):
    """What `configure` reads of a service's settings."""

    @property
    def log_level(self) -> str: ...

    @property
    def otel_endpoint(self) -> str | None: ...


class Tracing(Protocol):
    """Spans of calls; `tracing.py` implements it over OpenTelemetry."""

    def server_call(self, method: str, metadata: Iterable[tuple[str, str | bytes]]) -> AbstractContextManager[None]:
        """A span around the answering of a call, a child of the caller's."""
        ...

    def client_call(self, service: str, method: str) -> AbstractContextManager[tuple[tuple[str, str], ...]]:
        """A span around a call; gives the metadata that carries it to the callee."""
        ...


_tracing: Tracing | None = None


class _JsonFormatter(logging.Formatter):
    """One JSON object a record. Only named fields are written, so that no secret slips in with an `extra`."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        fields = {
            "at": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "service": self._service,
            "logger": record.name,
            "request_id": request_id.get(),
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, ensure_ascii=False)


def configure(service: str, settings: TelemetrySettings) -> None:
    """Send the process's logs to stderr as JSON, and its spans to a collector if one is named. May be called again."""
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if handler.name == _HANDLER_NAME]:
        root.removeHandler(handler)
    handler = logging.StreamHandler(sys.stderr)
    handler.name = _HANDLER_NAME
    handler.setFormatter(_JsonFormatter(service))
    root.addHandler(handler)
    root.setLevel(settings.log_level)
    if settings.otel_endpoint:
        from tovuk_kit.tracing import OpenTelemetryTracing

        trace_with(OpenTelemetryTracing.exporting_to(settings.otel_endpoint, service))
    else:
        trace_with(None)


def trace_with(tracing: Tracing | None) -> None:
    """Make every call of this process a span of `tracing`, or none with None."""
    global _tracing  # noqa: PLW0603 a process has one tracer, as it has one root logger
    _tracing = tracing


def server_span(method: str, metadata: Iterable[tuple[str, str | bytes]]) -> AbstractContextManager[None]:
    """The span of a call being answered; nothing while tracing is off."""
    return _NO_SPAN if _tracing is None else _tracing.server_call(method, metadata)


def client_span(service: str, method: str) -> AbstractContextManager[tuple[tuple[str, str], ...]]:
    """The span of a call being made, with the metadata to send along; nothing while tracing is off."""
    return _NO_METADATA if _tracing is None else _tracing.client_call(service, method)


_NO_SPAN: AbstractContextManager[None] = nullcontext()
_NO_METADATA: AbstractContextManager[tuple[tuple[str, str], ...]] = nullcontext(())


@cache
def counter(name: CounterName, *labels: str) -> Counter:
    """The counter of one set of label values, ready for `inc`; hot paths keep it and add in bulk."""
    family = _counter_family(name)
    return family.labels(*labels)


@cache
def histogram(name: HistogramName, *labels: str) -> Histogram:
    """The histogram of one set of label values, ready for `observe`."""
    return _histogram_family(name).labels(*labels)


@cache
def _counter_family(name: CounterName) -> Counter:
    description, labels = _COUNTERS[name]
    return Counter(name, description, labels, registry=_registry)


@cache
def _histogram_family(name: HistogramName) -> Histogram:
    description, labels = _HISTOGRAMS[name]
    return Histogram(name, description, labels, registry=_registry, buckets=_BUCKETS_SECONDS)


def render_metrics() -> bytes:
    """Every metric in Prometheus' text format."""
    return generate_latest(_registry)
