"""`vsay keys …`: the keys that sign the record."""

import argparse
import re
import sys
from pathlib import Path

import msgspec

from contracts import keys
from contracts.ids import NAME_PATTERN
from services.cli.connection import FailedError, connected, settings_of
from services.runtime import signing
from services.runtime.settings import SecretsDir, SigningKeyName, StreamSettings


class KeysSettings(StreamSettings, frozen=True, kw_only=True):
    """What these commands need to know."""

    secrets_dir: SecretsDir = ".vsay/secrets"
    signing_key: SigningKeyName = ""


async def create(arguments: argparse.Namespace) -> None:
    """`vsay keys create`, `vsay keys rotate`"""
    settings = settings_of(KeysSettings)
    name = arguments.name or settings.signing_key or signing.DEFAULT_NAME
    if not re.fullmatch(NAME_PATTERN, name):
        raise signing.SigningKeyError(f"{name!r} cannot be the name of a key")
    async with connected(settings) as jetstream:
        secrets_dir = Path(settings.secrets_dir)
        signer = await signing.create(jetstream, secrets_dir, name, rotate=arguments.command == "keys_rotate")
    print(f"{signer.key_id} {secrets_dir / (name + signing.SUFFIX)}")


async def list_(_: argparse.Namespace) -> None:
    """`vsay keys list`"""
    settings = settings_of(KeysSettings)
    secrets_dir = Path(settings.secrets_dir)
    in_use = {signing.read(secrets_dir, name).key_id: name for name in signing.names(secrets_dir)}
    async with connected(settings) as jetstream:
        known = await signing.registered(jetstream)
    for key in known:
        name = in_use.get(key.id)
        print(f"{key.id} {key.created_at:%Y-%m-%dT%H:%M:%SZ}" + (f" signs as {name}" if name else ""))


async def import_(arguments: argparse.Namespace) -> None:
    """`vsay keys import FILE`"""
    try:
        exported = keys.decode(arguments.file.read_bytes())
    except OSError as error:
        raise FailedError(f"{arguments.file}: {error.strerror or type(error).__name__}") from error
    except msgspec.MsgspecError as error:
        raise FailedError(f"{arguments.file}: not what `vsay keys export` writes: {error}") from error
    if foreign := [key.id for key in exported if key.id != keys.id_of(key.public_key)]:
        raise FailedError(f"{arguments.file}: {foreign[0]} is not the id of its key")
    async with connected(settings_of(KeysSettings)) as jetstream:
        for key in exported:
            print(f"{key.id} {'registered' if await signing.register_public(jetstream, key) else 'known'}")


async def export(_: argparse.Namespace) -> None:
    """`vsay keys export`"""
    async with connected(settings_of(KeysSettings)) as jetstream:
        sys.stdout.buffer.write(keys.encode(await signing.registered(jetstream)))
