"""`vsay`: starts the single-machine stack, applies the directory, makes and revokes API tokens."""

import argparse
import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from nats.aio.client import Client
from nats.errors import Error as NatsError

from services.runtime import bus, stack_file
from services.runtime.directory import Directory, DirectoryError, UnreadableValueError, read_file
from services.runtime.settings import SettingsError, StreamSettings, load

FAILED: Final = 1
WRONG_USAGE: Final = 2

CONNECT_SECONDS: Final = 5.0

type Command = Callable[[argparse.Namespace, StreamSettings], Coroutine[Any, Any, None]]


class FailedError(Exception):
    """The command could not do what it was asked; the message says why."""


def main() -> None:
    """Exit status: 0 done, 1 failed, 2 wrong usage. What went wrong is one line on stderr."""
    arguments = _parser().parse_args()
    if arguments.command is None:
        os.execv(sys.executable, [sys.executable, "-m", "deploy.stack"])  # noqa: S606  # this very program, without a shell
    try:
        asyncio.run(arguments.command(arguments, _settings()))
    except SettingsError as error:
        _end(WRONG_USAGE, str(error))
    except (FailedError, DirectoryError, UnreadableValueError, stack_file.StackFileError) as error:
        _end(FAILED, str(error))
    except (NatsError, TimeoutError) as error:
        _end(FAILED, f"NATS does not answer as it should: {error or type(error).__name__}")
    except KeyboardInterrupt:
        _end(130, "interrupted")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vsay", description="An SSH session gateway: everything is recorded before it is shown.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    up = commands.add_parser("up", help="start the whole system on this machine; Ctrl-C stops it")
    up.set_defaults(command=None)

    directory = commands.add_parser("directory", help="organizations, users and machines")
    apply = directory.add_subparsers(required=True, metavar="COMMAND").add_parser(
        "apply", help="make the directory as a TOML file says", description="Make the directory as a TOML file says."
    )
    apply.add_argument("file", type=Path, metavar="FILE")
    apply.add_argument("--prune", action="store_true", help="remove what the file does not declare")
    apply.set_defaults(command=_apply)

    token = commands.add_parser("token", help="API tokens").add_subparsers(required=True, metavar="COMMAND")
    create = token.add_parser("create", help="print a new API token", description="Print a new API token; it is shown only now.")
    create.add_argument("--user", required=True, metavar="ID", help="whose token, for example usr_123")
    create.set_defaults(command=_create_token)
    revoke = token.add_parser("revoke", help="make an API token worthless", description="Make an API token worthless.")
    revoke.add_argument("token", nargs="?", metavar="TOKEN", help="read from standard input when left out, which keeps it secret")
    revoke.set_defaults(command=_revoke_token)
    return parser


async def _apply(arguments: argparse.Namespace, settings: StreamSettings) -> None:
    declared = read_file(arguments.file)
    async with _directory(settings) as directory:
        changes = await directory.apply(declared, prune=arguments.prune)
    for verb, ids in (("written", changes.written), ("removed", changes.removed)):
        for id_ in ids:
            print(f"{verb} {id_}")
    print(f"{len(changes.written)} written, {len(changes.unchanged)} unchanged, {len(changes.removed)} removed")


async def _create_token(arguments: argparse.Namespace, settings: StreamSettings) -> None:
    async with _directory(settings) as directory:
        print(await directory.create_token(arguments.user))


async def _revoke_token(arguments: argparse.Namespace, settings: StreamSettings) -> None:
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


if __name__ == "__main__":
    main()
