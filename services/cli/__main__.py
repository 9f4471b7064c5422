"""`vsay`: starts the single-machine stack, applies the directory, makes and revokes API tokens, keeps the audit store."""

import argparse
import os
import signal
import sys
from datetime import date
from pathlib import Path


def main() -> None:
    """Exit status: 0 done, 1 failed, 2 wrong usage. What went wrong is one line on stderr."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it without a traceback
    arguments = _parser().parse_args()
    if arguments.command == "up":
        os.execv(sys.executable, [sys.executable, "-m", "deploy.stack"])  # noqa: S606  # this very program, without a shell
    from services.cli import commands  # only now: it takes as long to load as most commands take

    commands.run(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vsay", description="An SSH session gateway: everything is recorded before it is shown.")
    top = parser.add_subparsers(required=True, metavar="COMMAND")
    _command(top, "up", "up", "start the whole system on this machine; Ctrl-C stops it")
    _directory(_group(top, "directory", "organizations, users and machines"))
    _token(_group(top, "token", "API tokens"))
    _host_keys(_group(top, "host-key", "host keys pinned at first use"))
    _keys(_group(top, "keys", "keys that sign the record"))
    _audit(_group(top, "audit", "the audit store"))
    _export(top)
    _logs(_group(top, "logs", "command logs"))
    return parser


type _Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001  # argparse has no public name for it


def _group(commands: _Commands, name: str, help_: str) -> _Commands:
    """Commands that share their first word."""
    return commands.add_parser(name, help=help_).add_subparsers(required=True, metavar="COMMAND")


def _command(commands: _Commands, name: str, does: str, help_: str, description: str = "") -> argparse.ArgumentParser:
    """One command: `does` is its name in `services.cli.commands`; without a `description`, its help is one."""
    parser = commands.add_parser(name, help=help_, description=description or f"{help_[0].upper()}{help_[1:]}.")
    parser.set_defaults(command=does)
    return parser


def _directory(commands: _Commands) -> None:
    apply = _command(commands, "apply", "apply", "make the directory as a TOML file says")
    _file(apply)
    apply.add_argument("--prune", action="store_true", help="remove what the file does not declare")


def _token(commands: _Commands) -> None:
    create = _command(commands, "create", "create_token", "print a new API token", "Print a new API token; it is shown only now.")
    create.add_argument("--user", required=True, metavar="ID", help="whose token, for example usr_123")
    revoke = _command(commands, "revoke", "revoke_token", "make an API token worthless")
    revoke.add_argument("token", nargs="?", metavar="TOKEN", help="read from standard input when left out, which keeps it secret")


def _logs(commands: _Commands) -> None:
    rebuild = _command(
        commands,
        "rebuild",
        "logs_rebuild",
        "find commands and text anew in the recorded events",
        "Run the present detection over recorded events: the sessions get a new version of their logs.",
    )
    _some(rebuild, "session", "as sess_…; every session that has ended when left out")


def _audit(commands: _Commands) -> None:
    rebuild = _command(
        commands,
        "rebuild",
        "audit_rebuild",
        "make projections anew from the events while ingestion goes on",
        "Make projections anew from the events, while ingestion goes on, and swap them in at once.",
    )
    _some(rebuild, "projection", "sessions, logs, commands, attendance or stats; all when left out")
    rebuild.add_argument("--restart", action="store_true", help="drop what a rebuild that was cut off has left, and begin anew")
    verify = _command(
        commands,
        "verify",
        "audit_verify",
        "prove that the record is complete and unaltered",
        "Verify sessions; or all sessions, who read records (access entries), and the anchors over both. That it reads them is "
        "recorded before it does. "
        "Exit status: 0 nothing wrong, 1 it could not be done, 2 wrong usage, 3 something is wrong.",
    )
    _some(verify, "session", "as sess_…; all sessions, access entries and anchors when left out")
    verify.add_argument("--access", action="store_true", help="access entries and their anchors alone")
    verify.add_argument(
        "--from", dest="from_", metavar="TIME", help="ISO 8601; what happened then or later, each session as a whole"
    )
    verify.add_argument("--to", metavar="TIME", help="ISO 8601; before then")
    verify.add_argument("--keys", type=Path, metavar="FILE", help="believe these keys (`vsay keys export`), not those on the bus")
    verify.add_argument(
        "--anchor",
        action="append",
        default=[],
        metavar="NUMBER:HASH",
        help="an anchor that was printed once and kept must be there",
    )
    verify.add_argument(
        "--access-anchor",
        action="append",
        default=[],
        metavar="NUMBER:HASH",
        help="the same of an access anchor",
    )


def _export(commands: _Commands) -> None:
    export = _command(
        commands,
        "export",
        "export",
        "write Parquet files of what was recorded",
        "Write Parquet files of what was recorded: one a view and day (UTC). That it reads them is recorded before it does.",
    )
    _some(export, "view", "sessions, commands, logs or events; all when left out")
    _day(export, "--from", "since", "the first day", required=True)
    _day(export, "--to", "until", "the day after the last; today when left out")
    export.add_argument("--org", metavar="ID", help="of one organization alone")
    export.add_argument("--output", required=True, type=Path, metavar="DIRECTORY", help="where the files go")


def _host_keys(commands: _Commands) -> None:
    forget = _command(
        commands,
        "forget",
        "host_key_forget",
        "trust a machine's next first use",
        "Remove the host key that was pinned at the first use of a machine with trust_on_first_use.",
    )
    forget.add_argument("machine", metavar="MACHINE", help="for example mch_456")


def _keys(commands: _Commands) -> None:
    create = _command(
        commands,
        "create",
        "keys_create",
        "make a signing key",
        "Make the signing key NAME.signing.pem in VSAY_SECRETS_DIR, and register its public half.",
    )
    rotate = _command(
        commands,
        "rotate",
        "keys_rotate",
        "replace a signing key by a new one",
        "Replace a signing key by a new one, which is used from now on; what the old one signed stays verifiable.",
    )
    for each in (create, rotate):
        each.add_argument("name", nargs="?", metavar="NAME", help="default: VSAY_SIGNING_KEY, else signing")
    _command(commands, "list", "keys_list", "list the public keys")
    _command(commands, "export", "keys_export", "print the public keys as JSON")
    _file(_command(commands, "import", "keys_import", "register public keys again", "Register public keys that were exported."))


def _some(parser: argparse.ArgumentParser, what: str, help_: str) -> None:
    """Any number of these."""
    parser.add_argument(f"{what}s", nargs="*", metavar=what.upper(), help=help_)


def _file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE")


def _day(parser: argparse.ArgumentParser, option: str, name: str, help_: str, *, required: bool = False) -> None:
    parser.add_argument(option, dest=name, required=required, type=date.fromisoformat, metavar="DATE", help=help_)


if __name__ == "__main__":
    main()
