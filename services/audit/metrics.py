"""The audit service's Prometheus metrics, and how far it is behind the streams."""

from typing import Final

from nats.js import JetStreamContext
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from contracts.anchors import AccessAnchor, Anchor
from contracts.streams import AUDIT, AUDIT_ACCESS, Consumer
from services.runtime.anchors import OF_ACCESS, OF_SESSIONS, Series, newest_anchor
from services.runtime.metrics import Metrics

SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class StreamMetrics:
    """Those of one stream."""

    def __init__(self, metrics: "AuditMetrics", stream: str) -> None:
        self.stored = metrics.stored.labels(stream=stream)
        self.quarantined = metrics.quarantined.labels(stream=stream)
        self.failed_inserts = metrics.failed_inserts.labels(stream=stream)
        self.insert_seconds = metrics.insert_seconds.labels(stream=stream)


class AuditMetrics:
    """One process's; the lag is of all replicas together, and read when it is asked for."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Registers everything in `registry`."""
        self._registry = registry
        self.stored = Counter("vsay_audit_stored", "Messages stored in ClickHouse.", ("stream",), registry=registry)
        self.quarantined = Counter("vsay_audit_quarantined", "Messages set aside.", ("stream",), registry=registry)
        self.failed_inserts = Counter(
            "vsay_audit_inserts_failed",
            "Inserts that failed, to be tried again.",
            ("stream",),
            registry=registry,
        )
        self.insert_seconds = Histogram(
            "vsay_audit_insert_seconds", "One batch into ClickHouse.", ("stream",), buckets=SECONDS, registry=registry
        )
        self.lag = Gauge("vsay_audit_lag_messages", "Messages of the stream that ClickHouse lacks.", ("stream",), registry=registry)

        self.unanchored = Gauge(
            "vsay_audit_unanchored_messages", "Stored messages of stream SESSIONS that no anchor is over yet.", registry=registry
        )

        self.unanchored_access = Gauge(
            "vsay_audit_unanchored_access_messages",
            "Stored messages of stream ACCESS that no anchor is over yet.",
            registry=registry,
        )

    def of_stream(self, stream: str) -> StreamMetrics:
        """Those that a sink counts in."""
        return StreamMetrics(self, stream)

    def text(self, jetstream: JetStreamContext, *consumers: Consumer) -> Metrics:
        """The text of everything, with the lag as it is then. Reading it raises what the bus raises."""

        async def read() -> bytes:
            for consumer in consumers:
                self.lag.labels(stream=consumer.stream).set(await lag(jetstream, consumer))
            self.unanchored.set(await unanchored(jetstream, AUDIT, OF_SESSIONS))
            self.unanchored_access.set(await unanchored(jetstream, AUDIT_ACCESS, OF_ACCESS))
            return generate_latest(self._registry)

        return read


async def lag(jetstream: JetStreamContext, consumer: Consumer) -> int:
    """Messages that are not acknowledged yet: ClickHouse may lack them. Raises `nats.errors.Error`."""
    info = await jetstream.consumer_info(consumer.stream, consumer.durable)
    return (info.num_pending or 0) + (info.num_ack_pending or 0)


async def unanchored[A: (Anchor, AccessAnchor)](jetstream: JetStreamContext, stored: Consumer, series: Series[A]) -> int:
    """How far a stream is stored beyond what the newest anchor is over. Raises `nats.errors.Error`."""
    anchor = await newest_anchor(jetstream, series)
    info = await jetstream.consumer_info(stored.stream, stored.durable)
    floor = info.ack_floor.stream_seq if info.ack_floor else 0
    return max(floor - (anchor.last_stream_seq if anchor else 0), 0)
