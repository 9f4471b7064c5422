"""What makers of anchors share: when the next one is due, what it follows, its seal, and its place in the chain's stream.

Any number of replicas may do this: an anchor is published with the place of the one before, which the stream checks, so one
of them wins and the others see its anchor. Nothing is kept between anchors but the anchors.
"""

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Final

from msgspec.structs import replace
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import Header
from nats.js.errors import BadRequestError

from contracts import anchors
from contracts.anchors import GENESIS, LEAVES_MAX, AccessAnchor, Anchor
from contracts.proof import Verdict
from services.audit.clickhouse import Store, StoreUnavailableError
from services.audit.settings import AuditSettings
from services.runtime import signing
from services.runtime.anchors import Series, newest_anchor
from services.runtime.signing import PublicKeys, SigningKeyError

log = logging.getLogger(__name__)

PUBLISH_SECONDS: Final = 5.0

WRONG_LAST_SEQUENCE: Final = 10071
"""JetStream's `err_code` for a guard that did not hold."""


class AnchorMaker[A: (Anchor, AccessAnchor)](ABC):
    """Makes one chain. Methods raise `nats.errors.Error` when the bus does not answer, and `StoreUnavailableError`."""

    def __init__(
        self,
        jetstream: JetStreamContext,
        store: Store,
        settings: AuditSettings,
        series: Series[A],
        leaves_max: int = LEAVES_MAX,
    ) -> None:
        self._jetstream = jetstream
        self._store = store
        self._settings = settings
        self._series: Series[A] = series
        self._leaves_max = leaves_max

    async def run(self) -> None:
        """Make anchors until cancelled."""
        while True:
            await asyncio.sleep(self._settings.anchor_seconds)
            try:
                if await self._is_due():
                    # What was stored meanwhile waits for the next time, but what one anchor could not hold does not.
                    while (made := await self.anchor()) and len(made.leaves) >= self._leaves_max:
                        log.info("anchor %d is full, another follows", made.number)
            except (NatsError, TimeoutError, StoreUnavailableError, SigningKeyError) as error:
                log.warning("no anchor was made: %s: %s", type(error).__name__, error)

    async def anchor(self) -> A | None:
        """Make the next anchor; None when there is nothing new to anchor, or another replica was faster."""
        stream, subject = self._series.consumer.stream, self._series.consumer.filter_subject
        place = (await self._jetstream.stream_info(stream)).state.last_seq
        streamed = await newest_anchor(self._jetstream, self._series)
        if streamed is None:
            moved = await self._jetstream.consumer_info(stream, self._series.consumer.durable)
            if moved.num_pending or moved.num_ack_pending:
                return None  # something that is no anchor hides the newest one, until ClickHouse has it
        last = await self._stored_after(streamed) or streamed
        draft = await self._draft(streamed)
        if draft is None:
            return None
        anchor = self._sealed(draft, last)
        guard = {Header.EXPECTED_LAST_SEQUENCE.value: str(place)}
        try:
            await self._jetstream.publish(subject, anchors.encode(anchor), timeout=PUBLISH_SECONDS, stream=stream, headers=guard)
        except BadRequestError as error:
            if error.err_code != WRONG_LAST_SEQUENCE:
                raise
            log.info("anchor %d of stream %s was made by another replica", anchor.number, stream)
            return None
        log.info("anchor %d of stream %s: %d leaves", anchor.number, stream, len(anchor.leaves))
        return anchor

    @abstractmethod
    async def _draft(self, streamed: A | None) -> A | None:
        """What is stored and `streamed` is not over, as an anchor without number and seal; None when there is nothing."""

    @abstractmethod
    async def _newest_stored(self) -> A | None:
        """The newest anchor of the chain in ClickHouse."""

    async def _stored_after(self, streamed: A | None) -> A | None:
        """ClickHouse has later anchors than the stream when that was lost, or restored: their numbers are not given twice."""
        stored = await self._newest_stored()
        if stored is None or stored.number <= (streamed.number if streamed else 0):
            return None
        if self._settings.signing_key:
            known = await PublicKeys.load(self._jetstream)
            if known.verdict(stored.key_id, stored.statement(), stored.signature) is not Verdict.GOOD:
                log.error("anchor %d in ClickHouse is not signed with a known key, and not continued", stored.number)
                return None
        return stored

    async def _is_due(self) -> bool:
        """Whether no other replica has made one just now."""
        last = await newest_anchor(self._jetstream, self._series)
        return last is None or _now_us() - last.at >= self._settings.anchor_seconds * 500_000

    def _sealed(self, draft: A, last: A | None) -> A:
        signer = signing.read_or_none(Path(self._settings.secrets_dir), self._settings.signing_key)
        anchor = replace(
            draft,
            number=last.number + 1 if last else 1,
            at=_now_us(),
            previous=last.hash() if last else GENESIS,
            key_id=signer.key_id if signer else "",
        )
        return replace(anchor, signature=signer.sign(anchor.statement())) if signer else anchor


def _now_us() -> int:
    return time.time_ns() // 1000
