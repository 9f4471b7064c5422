"""JetStream's own backup of a stream, over the API that `nats stream backup` and `nats stream restore` use.

Source: nats-server, `$JS.API.STREAM.SNAPSHOT` and `$JS.API.STREAM.RESTORE`: chunks to a subject, each answered by an empty
message; an empty chunk is the end.
"""

import asyncio
import json
from typing import Any

from msgspec import Struct
from nats.aio.client import Client
from nats.aio.msg import Msg

CHUNK_BYTES = 64 * 1024
ANSWER_SECONDS = 60.0


class StreamSnapshot(Struct, frozen=True):
    """A stream with its messages and its consumers' states."""

    name: str
    config: dict[str, Any]
    state: dict[str, Any]
    chunks: tuple[bytes, ...]


async def snapshot(client: Client, stream: str) -> StreamSnapshot:
    inbox = client.new_inbox()
    chunks: list[bytes] = []
    complete = asyncio.Event()

    async def chunk(message: Msg) -> None:
        if message.data:
            chunks.append(message.data)
        else:
            complete.set()
        if message.reply:
            await message.respond(b"")

    subscription = await client.subscribe(inbox, cb=chunk)
    answer = await _ask(client, f"$JS.API.STREAM.SNAPSHOT.{stream}", {"deliver_subject": inbox, "chunk_size": CHUNK_BYTES})
    async with asyncio.timeout(ANSWER_SECONDS):
        await complete.wait()
    await subscription.unsubscribe()
    return StreamSnapshot(stream, answer["config"], answer["state"], tuple(chunks))


async def restore(client: Client, taken: StreamSnapshot) -> None:
    """The stream must not exist."""
    answer = await _ask(client, f"$JS.API.STREAM.RESTORE.{taken.name}", {"config": taken.config, "state": taken.state})
    for chunk in taken.chunks:
        await client.request(answer["deliver_subject"], chunk, timeout=ANSWER_SECONDS)
    done = json.loads((await client.request(answer["deliver_subject"], b"", timeout=ANSWER_SECONDS)).data)
    assert "error" not in done, done


async def _ask(client: Client, subject: str, request: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads((await client.request(subject, json.dumps(request).encode(), timeout=ANSWER_SECONDS)).data)
    assert "error" not in answer, answer
    return answer
