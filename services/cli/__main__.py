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
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    up = commands.add_parser("up", help="start the whole system on this machine; Ctrl-C stops it")
    up.set_defaults(command="up")

    directory = commands.add_parser("directory", help="organizations, users and machines")
    apply = directory.add_subparsers(required=True, metavar="COMMAND").add_parser(
        "apply", help="make the directory as a TOML file says", description="Make the directory as a TOML file says."
    )
    apply.add_argument("file", type=Path, metavar="FILE")
    apply.add_argument("--prune", action="store_true", help="remove what the file does not declare")
    apply.set_defaults(command="apply")

    token = commands.add_parser("token", help="API tokens").add_subparsers(required=True, metavar="COMMAND")
    create = token.add_parser("create", help="print a new API token", description="Print a new API token; it is shown only now.")
    create.add_argument("--user", required=True, metavar="ID", help="whose token, for example usr_123")
    create.set_defaults(command="create_token")
    revoke = token.add_parser("revoke", help="make an API token worthless", description="Make an API token worthless.")
    revoke.add_argument("token", nargs="?", metavar="TOKEN", help="read from standard input when left out, which keeps it secret")
    revoke.set_defaults(command="revoke_token")
    _host_keys(commands)
    _keys(commands)
    _audit(commands)
    _export(commands)
    _logs(commands)
    return parser


def _logs(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    logs = commands.add_parser("logs", help="command logs").add_subparsers(required=True, metavar="COMMAND")
    rebuild = logs.add_parser(
        "rebuild",
        help="find commands and text anew in the recorded events",
        description="Run the present detection over recorded events: the sessions get a new version of their logs.",
    )
    rebuild.add_argument("sessions", nargs="*", metavar="SESSION", help="as sess_…; every session that has ended when left out")
    rebuild.set_defaults(command="logs_rebuild")


def _audit(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    audit = commands.add_parser("audit", help="the audit store").add_subparsers(required=True, metavar="COMMAND")
    rebuild = audit.add_parser(
        "rebuild",
        help="make projections anew from the events while ingestion goes on",
        description="Make projections anew from the events, while ingestion goes on, and swap them in at once.",
    )
    rebuild.add_argument(
        "projections", nargs="*", metavar="PROJECTION", help="sessions, logs, attendance or stats; all when left out"
    )
    rebuild.add_argument("--restart", action="store_true", help="drop what a rebuild that was cut off has left, and begin anew")
    rebuild.set_defaults(command="audit_rebuild")
    _verify(audit)


def _verify(audit: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    verify = audit.add_parser(
        "verify",
        help="prove that the record is complete and unaltered",
        description="Verify sessions, or all sessions and anchors. Exit status: 0 nothing wrong, 1 it could not be done, "
        "2 wrong usage, 3 something is wrong.",
    )
    verify.add_argument("sessions", nargs="*", metavar="SESSION", help="default: all sessions, and the anchors")
    verify.add_argument("--from", dest="from_", metavar="TIME", help="ISO 8601; sessions in which something happened then or later")
    verify.add_argument("--to", metavar="TIME", help="ISO 8601; before then")
    verify.add_argument("--keys", type=Path, metavar="FILE", help="believe these keys (`vsay keys export`), not those on the bus")
    verify.add_argument(
        "--anchor",
        action="append",
        default=[],
        metavar="NUMBER:HASH",
        help="an anchor that was printed once and kept must be there",
    )
    verify.set_defaults(command="audit_verify")


def _export(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    export = commands.add_parser(
        "export",
        help="write Parquet files of what was recorded",
        description="Write Parquet files of what was recorded: one a view and day (UTC).",
    )
    export.add_argument("views", nargs="*", metavar="VIEW", help="sessions, commands, logs or events; all when left out")
    export.add_argument("--from", dest="since", required=True, type=date.fromisoformat, metavar="DATE", help="the first day")
    export.add_argument(
        "--to", dest="until", type=date.fromisoformat, metavar="DATE", help="the day after the last; today when left out"
    )
    export.add_argument("--org", metavar="ID", help="of one organization alone")
    export.add_argument("--output", required=True, type=Path, metavar="DIRECTORY", help="where the files go")
    export.set_defaults(command="export")


def _host_keys(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    group = commands.add_parser("host-key", help="host keys pinned at first use").add_subparsers(required=True, metavar="COMMAND")
    forget = group.add_parser(
        "forget",
        help="trust a machine's next first use",
        description="Remove the host key that was pinned at the first use of a machine with trust_on_first_use.",
    )
    forget.add_argument("machine", metavar="MACHINE", help="for example mch_456")
    forget.set_defaults(command="host_key_forget")


def _keys(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    group = commands.add_parser("keys", help="keys that sign the record").add_subparsers(required=True, metavar="COMMAND")
    create = group.add_parser(
        "create",
        help="make a signing key",
        description="Make the signing key NAME.signing.pem in VSAY_SECRETS_DIR, and register its public half.",
    )
    rotate = group.add_parser(
        "rotate",
        help="replace a signing key by a new one",
        description="Replace a signing key by a new one, which is used from now on; what the old one signed stays verifiable.",
    )
    for each, name in ((create, "keys_create"), (rotate, "keys_rotate")):
        each.add_argument("name", nargs="?", metavar="NAME", help="default: VSAY_SIGNING_KEY, else signing")
        each.set_defaults(command=name)
    group.add_parser("list", help="list the public keys").set_defaults(command="keys_list")
    export = group.add_parser("export", help="print the public keys as JSON", description="Print the public keys as JSON.")
    export.set_defaults(command="keys_export")
    import_ = group.add_parser("import", help="register public keys again", description="Register public keys that were exported.")
    import_.add_argument("file", type=Path, metavar="FILE")
    import_.set_defaults(command="keys_import")


if __name__ == "__main__":
    main()
