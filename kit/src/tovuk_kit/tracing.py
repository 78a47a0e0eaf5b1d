"""Spans of calls over OpenTelemetry. Imported only when a collector is named; needs the extra `tracing`."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator


class OpenTelemetryTracing:
    """A tracer of its own, not the process's global one; W3C `traceparent` travels in the metadata of calls."""

    def __init__(self, provider: TracerProvider) -> None:
        self._tracer = provider.get_tracer("tovuk")
        self._propagator = TraceContextTextMapPropagator()

    @classmethod
    def exporting_to(cls, endpoint: str, service: str) -> "OpenTelemetryTracing":
        """Spans go to an OTLP/gRPC collector in the background; while it is away they are dropped."""
        provider = TracerProvider(resource=Resource.create({SERVICE_NAME: service}))
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint, insecure=endpoint[:8] != "https://")))
        return cls(provider)

    @contextmanager
    def server_call(self, method: str, metadata: Iterable[tuple[str, str | bytes]]) -> Iterator[None]:
        """See `telemetry.Tracing`."""
        carrier = {name: value for name, value in metadata if isinstance(value, str)}
        parent = self._propagator.extract(carrier)
        with self._tracer.start_as_current_span(method.lstrip("/"), parent, SpanKind.SERVER, _of_call(method)):
            yield

    @contextmanager
    def client_call(self, service: str, method: str) -> Iterator[tuple[tuple[str, str], ...]]:
        """See `telemetry.Tracing`."""
        attributes = {**_of_call(method), "peer.service": service}
        # Not made the current one: a stream's replies come from an async generator, whose context is its consumer's.
        span = self._tracer.start_span(method.lstrip("/"), kind=SpanKind.CLIENT, attributes=attributes)
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, set_span_in_context(span))
        try:
            yield tuple(carrier.items())
        except Exception as error:
            span.set_status(StatusCode.ERROR, repr(error))
            raise
        finally:
            span.end()


def _of_call(method: str) -> dict[str, str]:
    service, _, name = method.lstrip("/").rpartition("/")
    return {"rpc.system": "grpc", "rpc.service": service, "rpc.method": name}
