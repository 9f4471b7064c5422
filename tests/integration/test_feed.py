"""What one viewer is given of a session, in which order, whatever order the stream has."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from contracts.wire import Recorded
from services.session_api.feed import Feed
from services.session_api.gateway import Gateway
from services.session_api.history import History
from services.session_api.settings import ApiSettings
from tests.integration.processes import WAIT_SECONDS_MAX
from tests.integration.servers import NatsServer
from tests.integration.stories import Story, publish


@pytest.fixture
async def gateway(nats_server: NatsServer) -> AsyncIterator[Gateway]:
    gateway = await Gateway.connect(ApiSettings(nats_url=nats_server.url, stream_bytes_max=1_000_000_000))
    yield gateway
    await gateway.close()


@pytest.mark.parametrize("stored_late", [(4, 5), (5, 4), (3, 7), (7, 3, 5)], ids=str)
async def test_what_is_stored_late_holds_up_what_followed_it_and_nothing_is_left_out(
    gateway: Gateway, stored_late: tuple[int, ...]
) -> None:
    """After a restart of NATS: some events are published again, behind others that were stored before the viewer came."""
    story = Story("sess_1").claimed().started()
    for number in range(6):
        story.output(b"%d" % number)
    events = {event.seq: event for event in story.events}
    for seq, event in events.items():
        if seq not in stored_late:
            await publish(gateway.jetstream, event)
    given: list[int] = []
    all_given = asyncio.Event()

    async def deliver(recorded: Recorded) -> None:
        given.append(recorded.seq)
        if recorded.seq == len(events):
            all_given.set()

    feed = Feed(gateway, await History.connect(ApiSettings(clickhouse_url="http://127.0.0.1:1")), "sess_1", deliver)
    await feed.open()
    try:
        await feed.start(after_seq=0, head_seq=len(events))
        assert given == list(range(1, min(stored_late)))
        for seq in stored_late:
            await publish(gateway.jetstream, events[seq])
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            await all_given.wait()
    finally:
        await feed.close()
    assert given == list(events)
