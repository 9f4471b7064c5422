"""The connection to NATS, and the streams, consumers and buckets on it."""

import logging
from typing import Any

from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DiscardPolicy,
    KeyValueConfig,
    RePublish,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)
from nats.js.errors import BadRequestError, NotFoundError
from nats.js.kv import KeyValue

from contracts import streams
from services.runtime.settings import NatsSettings, StreamSettings

log = logging.getLogger(__name__)

STREAM_NAME_IN_USE = 10058
"""JetStream's `err_code` when a stream exists with another configuration."""


def connect_options(settings: NatsSettings, name: str) -> dict[str, Any]:
    """Arguments for `nats.connect` and for FastStream's broker: reconnect for ever, notice a dead server in seconds."""
    options: dict[str, Any] = {
        "servers": settings.nats_url.split(","),
        "name": name,
        "max_reconnect_attempts": -1,
        "reconnect_time_wait": 0.25,
        "ping_interval": 5,
        "max_outstanding_pings": 2,
        "drain_timeout": 2,
        "pending_size": 8 * 1024 * 1024,
        "error_cb": _note_error,
    }
    if settings.nats_user:
        options |= {"user": settings.nats_user, "password": settings.nats_password}
    return options


async def connect(settings: NatsSettings, name: str) -> Client:
    """A connected client that reconnects for ever. Raises what `nats.connect` raises when the first attempt fails."""
    client = Client()
    await client.connect(**connect_options(settings, name))
    return client


async def declare(jetstream: JetStreamContext, settings: StreamSettings) -> None:
    """Create every stream, consumer and bucket that is missing; those that exist are left as they are."""
    for stream in streams.STREAMS:
        await _declare_stream(jetstream, stream, settings)
    for consumer in streams.CONSUMERS:
        await _declare_consumer(jetstream, consumer)
    for declared in streams.BUCKETS:
        await _declare_bucket(jetstream, declared, settings)


async def disconnect(nats: Client) -> None:
    """Send what is not sent yet and disconnect; without a connection, only stop looking for one."""
    if nats.is_connected:
        await nats.drain()
    else:
        await nats.close()


async def set_lease(jetstream: JetStreamContext, lease_seconds: float) -> None:
    """From now on an unrenewed lease on a session lasts this long. Only workers, which renew them, call this."""
    info = await jetstream.consumer_info(streams.SSH_WORKERS.stream, streams.SSH_WORKERS.durable)
    if info.config and info.config.ack_wait != lease_seconds:
        await jetstream.add_consumer(streams.SSH_WORKERS.stream, info.config.evolve(ack_wait=lease_seconds))


async def bucket(jetstream: JetStreamContext, declared: streams.Bucket) -> KeyValue:
    """The bucket, which `declare` has created. Raises `nats.js.errors.BucketNotFoundError`."""
    return await jetstream.key_value(declared.name)


async def _note_error(error: Exception) -> None:
    """What nats-py meets outside of any call of ours: lost connections, slow consumers, refused publishes."""
    log.warning("nats: %s: %s", type(error).__name__, error)


async def _declare_stream(jetstream: JetStreamContext, stream: streams.Stream, settings: StreamSettings) -> None:
    # Not just adding it: the server wants room for a stream of this size once more even when it has this very stream.
    try:
        await jetstream.stream_info(stream.name)
    except NotFoundError:
        await _add_stream(jetstream, stream, settings)


async def _add_stream(jetstream: JetStreamContext, stream: streams.Stream, settings: StreamSettings) -> None:
    republish = RePublish(src=stream.subjects[0], dest=stream.republish_to) if stream.republish_to else None
    config = StreamConfig(
        name=stream.name,
        subjects=list(stream.subjects),
        retention=RetentionPolicy.WORK_QUEUE if stream.work_queue else RetentionPolicy.LIMITS,
        discard=DiscardPolicy.NEW,
        storage=StorageType.FILE,
        max_bytes=stream.bytes_max or settings.stream_bytes_max,
        max_msg_size=stream.max_msg_bytes,
        duplicate_window=stream.duplicate_window_seconds,
        num_replicas=settings.stream_replicas,
        republish=republish,
        allow_direct=True,
    )
    try:
        await jetstream.add_stream(config)
    except BadRequestError as error:
        if error.err_code != STREAM_NAME_IN_USE:
            raise
        log.info("stream %s was made by another process just now", stream.name)


async def _declare_consumer(jetstream: JetStreamContext, consumer: streams.Consumer) -> None:
    try:
        await jetstream.consumer_info(consumer.stream, consumer.durable)
    except NotFoundError:
        await jetstream.add_consumer(
            consumer.stream,
            ConsumerConfig(
                durable_name=consumer.durable,
                filter_subject=consumer.filter_subject,
                ack_policy=AckPolicy.EXPLICIT,
                ack_wait=consumer.ack_wait_seconds,
                max_ack_pending=consumer.max_ack_pending,
                max_deliver=-1,
            ),
        )


async def _declare_bucket(jetstream: JetStreamContext, declared: streams.Bucket, settings: StreamSettings) -> None:
    try:
        await jetstream.key_value(declared.name)
    except NotFoundError:
        await jetstream.create_key_value(
            KeyValueConfig(
                bucket=declared.name,
                ttl=declared.ttl_seconds,
                replicas=settings.stream_replicas,
                storage=StorageType.FILE,
                direct=True,
            )
        )
