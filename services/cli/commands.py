"""What the subcommands of `vsay` do that talk to NATS, and the way to the others."""

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Final

from nats.errors import Error as NatsError

from services.audit.clickhouse import StoreUnavailableError
from services.cli import audit, export, host_keys, keys, rebuild, verify
from services.cli.connection import FailedError, connected, settings_of
from services.runtime.directory import Directory, DirectoryError, UnreadableValueError, read_file
from services.runtime.settings import SettingsError, StreamSettings
from services.runtime.signing import SigningKeyError
from services.runtime.stack_file import StackFileError

FAILED: Final = 1
WRONG_USAGE: Final = 2


def run(arguments: argparse.Namespace) -> None:
    """Do what was asked; when it fails, say why in one line and exit."""
    try:
        asyncio.run(COMMANDS[arguments.command](arguments))
    except SettingsError as error:
        _end(WRONG_USAGE, str(error))
    except (FailedError, DirectoryError, UnreadableValueError, StackFileError, SigningKeyError) as error:
        _end(FAILED, str(error))
    except StoreUnavailableError as error:
        _end(FAILED, f"ClickHouse does not answer as it should (VSAY_CLICKHOUSE_URL): {error}")
    except (NatsError, TimeoutError) as error:
        _end(FAILED, f"NATS does not answer as it should: {error or type(error).__name__}")


async def apply(arguments: argparse.Namespace) -> None:
    """`vsay directory apply FILE`"""
    declared = read_file(arguments.file)
    async with _directory() as directory:
        changes = await directory.apply(declared, prune=arguments.prune)
    for verb, ids in (("written", changes.written), ("removed", changes.removed)):
        for id_ in ids:
            print(f"{verb} {id_}")
    print(f"{len(changes.written)} written, {len(changes.unchanged)} unchanged, {len(changes.removed)} removed")


async def create_token(arguments: argparse.Namespace) -> None:
    """`vsay token create`"""
    async with _directory() as directory:
        print(await directory.create_token(arguments.user))


async def revoke_token(arguments: argparse.Namespace) -> None:
    """`vsay token revoke`"""
    token = (arguments.token or sys.stdin.readline()).strip()
    async with _directory() as directory:
        if not await directory.revoke_token(token):
            raise FailedError("there is no such token")
    print("revoked")


@asynccontextmanager
async def _directory() -> AsyncIterator[Directory]:
    async with connected(settings_of(StreamSettings)) as jetstream:
        yield await Directory.open(jetstream)


COMMANDS: Final[dict[str, Callable[[argparse.Namespace], Coroutine[None, None, None]]]] = {
    "apply": apply,
    "create_token": create_token,
    "revoke_token": revoke_token,
    "audit_rebuild": audit.rebuild,
    "audit_verify": verify.verify,
    "export": export.export,
    "host_key_forget": host_keys.forget,
    "logs_rebuild": rebuild.rebuild,
    "keys_create": keys.create,
    "keys_rotate": keys.create,
    "keys_list": keys.list_,
    "keys_export": keys.export,
    "keys_import": keys.import_,
}


def _end(status: int, message: str) -> None:
    print(f"vsay: {message}", file=sys.stderr)
    raise SystemExit(status)
