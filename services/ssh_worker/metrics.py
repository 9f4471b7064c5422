"""The worker's Prometheus metrics; `docs/operations.md` says what to watch."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from contracts.events import SessionEnded

SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


class WorkerMetrics:
    """One process's; shared by its sessions."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Registers everything in `registry`."""
        self.places = Gauge("vsay_worker_places", "Sessions that this process may carry at once.", registry=registry)
        self.sessions = Gauge("vsay_worker_sessions", "Sessions that this process carries.", registry=registry)
        self.draining = Gauge("vsay_worker_draining", "1 from SIGTERM on, else 0.", registry=registry)
        self.claimed = Counter("vsay_sessions_claimed", "Commands taken from the queue.", registry=registry)
        self.ended = Counter(
            "vsay_sessions_ended", "Sessions ended, by reason and connect code.", ("reason", "code"), registry=registry
        )
        self.abandoned = Counter(
            "vsay_sessions_abandoned", "Sessions left to another worker: a fault of ours, or another owner.", registry=registry
        )
        self.waited_seconds = Histogram(
            "vsay_session_waited_seconds", "From the request to the claim.", buckets=SECONDS, registry=registry
        )
        self.connect_seconds = Histogram(
            "vsay_session_connect_seconds", "From the first packet to the running shell.", buckets=SECONDS, registry=registry
        )
        self.output_bytes = Counter("vsay_output_bytes", "Terminal output recorded.", registry=registry)
        self.stored_events = Counter("vsay_events_stored", "Events that the stream acknowledged.", registry=registry)
        self.store_seconds = Histogram(
            "vsay_event_store_seconds", "From publishing an event to its acknowledgement.", buckets=SECONDS, registry=registry
        )
        self.repeated_publishes = Counter(
            "vsay_event_publishes_repeated", "Events published again: refused, or without an answer.", registry=registry
        )
        self.unconfirmed_renewals = Counter(
            "vsay_lease_renewals_unconfirmed", "Renewals of leases that JetStream did not confirm.", registry=registry
        )

    def session_ended(self, ended: SessionEnded) -> None:
        """The end of a session is recorded."""
        self.ended.labels(reason=ended.reason.value, code=ended.code.value if ended.code else "").inc()
