"""Puts into the directory what the single-machine stack needs: the user's file, the demo machine, and an admin's token."""

import getpass
from typing import Any, Final

from nats.js import JetStreamContext

from contracts.directory import DirectoryFile, Machine
from deploy.demo_machine import CREDENTIAL
from deploy.stack.home import Home
from services.runtime.directory import Directory, read_file

ADMIN: Final = "usr_admin"
DEMO_MACHINE: Final = "mch_demo"


async def prepare(jetstream: JetStreamContext, home: Home, demo_machine: dict[str, Any]) -> str | None:
    """Apply `directory.toml`, then the demo machine where it listens now, and see that the admin token is good.

    Returns what a person should know when something of it was left out. Raises `DirectoryError` for a wrong file.
    """
    directory = await Directory.open(jetstream)
    await directory.apply(read_file(home.directory))
    admin = await directory.user(ADMIN)
    if admin is None:
        return f"there is no user {ADMIN} in the directory: no admin token and no demo machine"
    machine = Machine(
        id=DEMO_MACHINE,
        name="Demo machine",
        org=admin.org,
        host=demo_machine["host"],
        port=demo_machine["port"],
        login=getpass.getuser(),
        credential=CREDENTIAL,
        host_keys=(demo_machine["host_key"],),
    )
    await directory.apply(DirectoryFile(machines=(machine,)))
    token = home.read_admin_token()
    if token is None or await directory.authenticate(token) is None:
        home.write_admin_token(await directory.create_token(ADMIN))
    return None
