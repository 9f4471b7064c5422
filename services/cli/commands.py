"""What the subcommands of `vsay` do that talk to NATS."""

import argparse
import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from nats.aio.client import Client
from nats.errors import Error as NatsError

from services.runtime import bus, stack_file
from services.runtime.directory import Directory, DirectoryError, UnreadableValueError, read_file
from services.runtime.settings import SettingsError, StreamSettings, load

FAILED: Final = 1
WRONG_USAGE: Final = 2

CONNECT_SECONDS: Final = 5.0


class FailedError(Exception):
    """The command could not do what it was asked; the message says why."""


def run(arguments: argparse.Namespace) -> None:
    """Do what was asked; when it fails, say why in one line and exit."""
    command = {"apply": apply, "create_token": create_token, "revoke_token": revoke_token}[arguments.command]
    try:
        asyncio.run(command(arguments, _settings()))
    except SettingsError as error:
        _end(WRONG_USAGE, str(error))
    except (FailedError, DirectoryError, UnreadableValueError, stack_file.StackFileError) as error:
        _end(FAILED, str(error))
    except (NatsError, TimeoutError) as error:
        _end(FAILED, f"NATS does not answer as it should: {error or type(error).__name__}")


async def apply(arguments: argparse.Namespace, settings: StreamSettings) -> None:
    """`vsay directory apply FILE`"""
    declared = read_file(arguments.file)
    async with _directory(settings) as directory:
        changes = await directory.apply(declared, prune=arguments.prune)
    for verb, ids in (("written", changes.written), ("removed", changes.removed)):
        for id_ in ids:
            print(f"{verb} {id_}")
    print(f"{len(changes.written)} written, {len(changes.unchanged)} unchanged, {len(changes.removed)} removed")


async def create_token(arguments: argparse.Namespace, settings: StreamSettings) -> None:
    """`vsay token create`"""
    async with _directory(settings) as directory:
        print(await directory.create_token(arguments.user))


async def revoke_token(arguments: argparse.Namespace, settings: StreamSettings) -> None:
    """`vsay token revoke`"""
    token = (arguments.token or sys.stdin.readline()).strip()
    async with _directory(settings) as directory:
        if not await directory.revoke_token(token):
            raise FailedError("there is no such token")
    print("revoked")


@asynccontextmanager
async def _directory(settings: StreamSettings) -> AsyncIterator[Directory]:
    nats, refusals = Client(), list[Exception]()

    async def refused(error: Exception) -> None:
        refusals.append(error)

    # Services wait for a server that is not there yet; a person would rather know.
    once = {"allow_reconnect": False, "max_reconnect_attempts": 1, "reconnect_time_wait": 0.1, "error_cb": refused}
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            await nats.connect(**bus.connect_options(settings, "vsay") | once)
    except (OSError, NatsError) as error:
        reason = refusals[-1] if refusals else error
        message = f"no NATS server at {settings.nats_url} (VSAY_NATS_URL): {reason or type(reason).__name__}; does `vsay up` run?"
        raise FailedError(message) from error
    try:
        jetstream = nats.jetstream()
        await bus.declare(jetstream, settings)
        yield await Directory.open(jetstream)
    finally:
        await nats.close()


def _settings() -> StreamSettings:
    """From the environment; without VSAY_NATS_URL, the server of the stack that runs in VSAY_HOME."""
    environ = dict(os.environ)
    if "VSAY_NATS_URL" not in environ and (stack := stack_file.find(environ)):
        environ["VSAY_NATS_URL"] = stack.nats
    return load(StreamSettings, environ)


def _end(status: int, message: str) -> None:
    print(f"vsay: {message}", file=sys.stderr)
    raise SystemExit(status)
