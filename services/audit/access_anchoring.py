"""Makes the anchors over access entries: at intervals, one over what stream ACCESS has had since the anchor before.

As those over sessions it works from the stream, not from ClickHouse, and goes as far as the entries are acknowledged, which
means stored. What is no entry has no leaf: it was set aside.
"""

from datetime import timedelta

from nats.js import JetStreamContext
from nats.js.api import StreamInfo

from contracts import anchors
from contracts.anchors import LEAVES_MAX, AccessAnchor, AccessLeaf
from contracts.streams import ACCESS, AUDIT_ACCESS
from services.audit.chain import AnchorMaker
from services.audit.clickhouse import Store
from services.audit.settings import AuditSettings
from services.runtime import access
from services.runtime.access import EPOCH, AccessEntry
from services.runtime.anchors import OF_ACCESS


class AccessAnchorer(AnchorMaker[AccessAnchor]):
    """Makes the anchors over access entries."""

    def __init__(self, jetstream: JetStreamContext, store: Store, settings: AuditSettings, *, leaves_max: int = LEAVES_MAX) -> None:
        super().__init__(jetstream, store, settings, OF_ACCESS, leaves_max)

    async def _newest_stored(self) -> AccessAnchor | None:
        return await self._store.newest_access_anchor()

    async def _draft(self, streamed: AccessAnchor | None) -> AccessAnchor | None:
        first, end = await self._range(streamed)
        if first > end:
            return None
        entries = await access.entries(self._jetstream, first, end, self._leaves_max)
        if not entries:
            return None
        if len(entries) == self._leaves_max:
            end = entries[-1].stream_seq
        leaves = tuple(_leaf(entry) for entry in entries)
        return AccessAnchor(0, 0, first, end, leaves, anchors.root([leaf.hash() for leaf in leaves]), previous=b"")

    async def _range(self, last: AccessAnchor | None) -> tuple[int, int]:
        """The part of the stream that is stored and that its own anchor `last` is not over; it may be empty."""
        consumer = await self._jetstream.consumer_info(ACCESS.name, AUDIT_ACCESS.durable)
        info = await self._jetstream.stream_info(ACCESS.name)
        floor = consumer.ack_floor.stream_seq if consumer.ack_floor else 0
        anchored = 0
        if last and last.last_stream_seq <= info.state.last_seq and not _is_newer(info, last):
            anchored = last.last_stream_seq
        return max(anchored + 1, info.state.first_seq), floor


def _leaf(entry: AccessEntry) -> AccessLeaf:
    its = entry.access
    return AccessLeaf(its.org_id, its.id, entry.stream_seq, its.at, entry.digest())


def _is_newer(stream: StreamInfo, anchor: AccessAnchor) -> bool:
    """Whether the stream was made after the anchor, instead of one that was lost."""
    return stream.created is not None and stream.created > EPOCH + timedelta(microseconds=anchor.at)
