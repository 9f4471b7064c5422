"""`vsay audit verify`: whether the record in ClickHouse is complete and unaltered."""

import argparse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from contracts import keys
from contracts.access import Action
from contracts.proof import Finding
from services.cli import access
from services.cli.connection import FailedError, connected, settings_of
from services.runtime.clickhouse import FAILURES, ClickHouse
from services.runtime.evidence import Evidence
from services.runtime.settings import ClickHouseSettings, SettingsError
from services.runtime.signing import PublicKeys
from services.runtime.verification import AnchorsReport, SessionReport, Verifier

FOUND = 3
"""Exit status when something is wrong with the record."""


async def verify(arguments: argparse.Namespace) -> None:
    """`vsay audit verify`; exits with `FOUND` when there are findings that are no notices."""
    since, until = _moment("--from", arguments.from_), _moment("--to", arguments.to, end_of_day=True)
    noted = [_noted(text) for text in arguments.anchor]
    sessions = events = errors = 0
    try:
        async with _verifier(arguments) as verifier:
            if arguments.sessions:
                reports = _each(verifier, arguments.sessions)
            else:
                anchors = await verifier.anchors(since, until)
                errors += _tell(anchors.findings, anchors.errors)
                _sum_up(anchors)
                reports = verifier.sessions(since, until)
            for number, hash_ in noted:
                findings = await verifier.noted(number, hash_)
                errors += _tell(findings, len(findings))
            async for report in reports:
                sessions, events = sessions + 1, events + report.events
                errors += _tell(report.findings, report.errors, report.session_id)
    except FAILURES as error:
        raise FailedError(f"ClickHouse does not answer as it should (VSAY_CLICKHOUSE_URL): {error}") from error
    print(f"{sessions} sessions with {events} events: {errors or 'nothing'} wrong")
    if errors:
        raise SystemExit(FOUND)


async def _each(verifier: Verifier, session_ids: list[str]) -> AsyncIterator[SessionReport]:
    for session_id in session_ids:
        report = await verifier.session(session_id)
        if not report.events and not report.findings:
            raise FailedError(f"there is no session {session_id}")
        yield report


@asynccontextmanager
async def _verifier(arguments: argparse.Namespace) -> AsyncIterator[Verifier]:
    """Once it is recorded that somebody reads what was asked for."""
    settings = settings_of(ClickHouseSettings)
    believed = _keys(arguments.keys) if arguments.keys else None
    clickhouse = ClickHouse(settings)
    try:
        async with connected(settings) as jetstream:
            known, evidence = believed or await PublicKeys.load(jetstream), Evidence(clickhouse)
            asked = {name: text for name, text in (("from", arguments.from_), ("to", arguments.to)) if text}
            for session_id in arguments.sessions or [""]:
                await access.record(jetstream, evidence, Action.VERIFICATION, asked, session_id=session_id)
            yield Verifier(evidence, jetstream, known, retention_days=settings.retention_days)
    finally:
        await clickhouse.close()


def _keys(path: Path) -> PublicKeys:
    try:
        return PublicKeys(keys.decode(path.read_bytes()))
    except OSError as error:
        raise FailedError(f"{path}: {error.strerror or type(error).__name__}") from error
    except msgspec.MsgspecError as error:
        raise FailedError(f"{path}: not what `vsay keys export` writes: {error}") from error


def _tell(findings: list[Finding], errors: int, session_id: str = "") -> int:
    for finding in findings:
        where = f"anchor {finding.anchor}" if not finding.session_id else finding.session_id
        at = f" event {finding.seq}" if finding.seq is not None else ""
        kind = "notice: " if finding.is_notice else ""
        print(f"{where}{at}: {kind}{finding.code.value}: {finding.message}", flush=True)
    told = sum(not finding.is_notice for finding in findings)
    if errors > told:
        print(f"{session_id or 'anchors'}: {errors - told} more findings")
    return errors


def _sum_up(anchors: AnchorsReport) -> None:
    if anchors.anchors:
        print(f"{anchors.anchors} anchors; the newest is {anchors.head_number}:{anchors.head_hash.hex()}", flush=True)
    else:
        print("no anchors", flush=True)


def _noted(text: str) -> tuple[int, bytes]:
    number, _, hash_ = text.partition(":")
    try:
        return int(number), bytes.fromhex(hash_)
    except ValueError as error:
        raise SettingsError(f"--anchor: not NUMBER:HASH, as `vsay audit verify` prints them: {text!r}") from error


def _moment(option: str, text: str | None, *, end_of_day: bool = False) -> datetime | None:
    """ISO 8601; UTC where it names no zone; a bare date is its beginning, or its end."""
    if text is None:
        return None
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError as error:
        raise SettingsError(f"{option}: not a date or time of ISO 8601: {text!r}") from error
    aware = parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
    return aware + timedelta(days=1) if end_of_day and len(text) <= len("2024-01-01") else aware
