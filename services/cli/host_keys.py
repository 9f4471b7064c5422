"""`vsay host-key`: what was pinned at the first use of machines."""

import argparse

from nats.js.errors import InvalidKeyError, KeyNotFoundError

from contracts.streams import HOST_KEYS
from services.cli.connection import FailedError, connected, settings_of
from services.runtime import bus
from services.runtime.settings import StreamSettings


async def forget(arguments: argparse.Namespace) -> None:
    """`vsay host-key forget MACHINE`"""
    async with connected(settings_of(StreamSettings)) as jetstream:
        bucket = await bus.bucket(jetstream, HOST_KEYS)
        try:
            await bucket.get(arguments.machine)
        except (KeyNotFoundError, InvalidKeyError) as error:
            raise FailedError(f"no host key was pinned at a first use of {arguments.machine}") from error
        await bucket.delete(arguments.machine)
    print(f"forgotten; the next session on {arguments.machine} pins what it is shown, if the machine still trusts on first use")
