"""All values of a key-value bucket at once.

Not with nats-py's `watch` and `keys` (2.16): their end marker can overtake the first value, so that a bucket looks empty,
and the consumer behind each stays on the server for minutes, where a stream takes only so many.
"""

from typing import Final

from nats.errors import TimeoutError as NatsTimeoutError
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.client import KV_PRE_TEMPLATE, KV_STREAM_TEMPLATE
from nats.js.kv import KV_MARKER_REASON, KV_OP

from contracts.streams import Bucket

FETCH_VALUES: Final = 500
FETCH_SECONDS: Final = 5.0
READER_SECONDS: Final = 30.0
"""A reader that could not be deleted is forgotten by the server after this."""


async def values(jetstream: JetStreamContext, declared: Bucket) -> dict[str, bytes]:
    """The present values by key. Raises `nats.errors.Error`, `nats.js.errors.NotFoundError` when there is no such bucket."""
    stream, prefix = KV_STREAM_TEMPLATE.format(bucket=declared.name), KV_PRE_TEMPLATE.format(bucket=declared.name)
    reader = await jetstream.add_consumer(
        stream,
        ConsumerConfig(
            filter_subject=f"{prefix}>",
            deliver_policy=DeliverPolicy.LAST_PER_SUBJECT,
            ack_policy=AckPolicy.NONE,
            inactive_threshold=READER_SECONDS,
            mem_storage=True,
            num_replicas=1,
        ),
    )
    found: dict[str, bytes] = {}
    waiting = reader.num_pending or 0
    try:
        subscription = await jetstream.pull_subscribe_bind(consumer=reader.name, stream=stream)
        try:
            while waiting:
                try:
                    messages = await subscription.fetch(min(waiting, FETCH_VALUES), timeout=FETCH_SECONDS)
                except NatsTimeoutError:
                    if (await subscription.consumer_info()).num_pending:
                        raise
                    break  # what was waiting has aged out
                for message in messages:
                    key = message.subject.removeprefix(prefix)
                    headers = message.headers or {}
                    if KV_OP in headers or KV_MARKER_REASON in headers:  # removed
                        found.pop(key, None)
                    else:
                        found[key] = message.data
                waiting = messages[-1].metadata.num_pending
        finally:
            await subscription.unsubscribe()
    finally:
        await jetstream.delete_consumer(stream, reader.name)
    return found
