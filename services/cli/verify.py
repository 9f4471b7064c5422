"""`vsay audit verify`: whether the record in ClickHouse is complete and unaltered."""

import argparse
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec

from contracts import keys
from contracts.access import Action
from contracts.access_check import EntryFinding
from contracts.proof import Finding
from services.cli import access
from services.cli.connection import FailedError, connected, settings_of
from services.runtime.access_evidence import AccessEvidence
from services.runtime.access_verification import AccessVerifier
from services.runtime.clickhouse import FAILURES, ClickHouse
from services.runtime.evidence import Evidence
from services.runtime.settings import ClickHouseSettings, SettingsError
from services.runtime.signing import PublicKeys
from services.runtime.verification import AnchorsReport, SessionReport, Verifier

ACCESS_ANCHOR: Final = "access anchor"

FOUND = 3
"""Exit status when something is wrong with the record."""


async def verify(arguments: argparse.Namespace) -> None:
    """`vsay audit verify`; exits with `FOUND` when there are findings that are no notices."""
    if arguments.access and arguments.sessions:
        raise SettingsError("--access: an access entry is of no session's record; name none")
    since, until = _moment("--from", arguments.from_), _moment("--to", arguments.to, end_of_day=True)
    noted, noted_access = _noted("--anchor", arguments.anchor), _noted("--access-anchor", arguments.access_anchor)
    seen, errors = [], 0
    try:
        async with _verifiers(arguments) as (of_sessions, of_access):
            if not arguments.access:
                about, wrong = await _sessions(of_sessions, arguments.sessions, since, until)
                seen.append(about)
                errors += wrong
            if not arguments.sessions:
                about, wrong = await _access(of_access, since, until)
                seen.append(about)
                errors += wrong
            for number, hash_ in noted:
                errors += _tell(await of_sessions.noted(number, hash_))
            for number, hash_ in noted_access:
                errors += _tell(await of_access.noted(number, hash_), ACCESS_ANCHOR)
    except FAILURES as error:
        raise FailedError(f"ClickHouse does not answer as it should (VSAY_CLICKHOUSE_URL): {error}") from error
    print(f"{' and '.join(seen)}: {errors or 'nothing'} wrong")
    if errors:
        raise SystemExit(FOUND)


async def _sessions(verifier: Verifier, session_ids: list[str], since: datetime | None, until: datetime | None) -> tuple[str, int]:
    """These sessions; or all sessions, and the anchors. What was seen, and how much of it is wrong."""
    sessions = events = errors = 0
    if session_ids:
        reports = _each(verifier, session_ids)
    else:
        anchors = await verifier.anchors(since, until)
        errors += _tell_anchors(anchors)
        reports = verifier.sessions(since, until)
    async for report in reports:
        sessions, events = sessions + 1, events + report.events
        errors += report.errors
        _tell(report.findings)
        _tell_rest(report.session_id, report.findings, report.errors)
    return f"{sessions} sessions with {events} events", errors


async def _access(verifier: AccessVerifier, since: datetime | None, until: datetime | None) -> tuple[str, int]:
    """Access entries, and the anchors over them. What was seen, and how much of it is wrong."""
    errors = _tell_anchors(await verifier.anchors(since, until), ACCESS_ANCHOR)
    report = await verifier.entries(since, until)
    for finding in report.findings:
        where = "access entries" if finding.stream_seq is None else f"access entry {finding.stream_seq}"
        _tell_one(where, finding)
    _tell_rest("access entries", report.findings, report.errors)
    if report.unanchored:
        print(f"{report.unanchored} access entries are in stream ACCESS, and not under an anchor yet", flush=True)
    return f"{report.entries} access entries", errors + report.errors


async def _each(verifier: Verifier, session_ids: list[str]) -> AsyncIterator[SessionReport]:
    for session_id in session_ids:
        report = await verifier.session(session_id)
        if not report.events and not report.findings:
            raise FailedError(f"there is no session {session_id}")
        yield report


@asynccontextmanager
async def _verifiers(arguments: argparse.Namespace) -> AsyncIterator[tuple[Verifier, AccessVerifier]]:
    """Once it is recorded that somebody reads what was asked for."""
    settings = settings_of(ClickHouseSettings)
    believed = _keys(arguments.keys) if arguments.keys else None
    clickhouse = ClickHouse(settings)
    try:
        async with connected(settings) as jetstream:
            known, evidence = believed or await PublicKeys.load(jetstream), Evidence(clickhouse)
            of_access = AccessVerifier(AccessEvidence(clickhouse), jetstream, known)
            only = "access" if arguments.access else None
            asked = {name: text for name, text in (("from", arguments.from_), ("to", arguments.to), ("only", only)) if text}
            for session_id in arguments.sessions or [""]:
                await access.record(jetstream, evidence, Action.VERIFICATION, asked, session_id=session_id)
            yield Verifier(evidence, jetstream, known, retention_days=settings.retention_days), of_access
    finally:
        await clickhouse.close()


def _keys(path: Path) -> PublicKeys:
    try:
        return PublicKeys(keys.decode(path.read_bytes()))
    except OSError as error:
        raise FailedError(f"{path}: {error.strerror or type(error).__name__}") from error
    except msgspec.MsgspecError as error:
        raise FailedError(f"{path}: not what `vsay keys export` writes: {error}") from error


def _tell(findings: list[Finding], anchor: str = "anchor") -> int:
    """Gives how many of them are wrong."""
    for finding in findings:
        where = finding.session_id or f"{anchor} {finding.anchor}"
        _tell_one(where if finding.seq is None else f"{where} event {finding.seq}", finding)
    return sum(not finding.is_notice for finding in findings)


def _tell_one(where: str, finding: Finding | EntryFinding) -> None:
    kind = "notice: " if finding.is_notice else ""
    print(f"{where}: {kind}{finding.code.value}: {finding.message}", flush=True)


def _tell_rest(of: str, findings: Sequence[Finding | EntryFinding], errors: int) -> None:
    """How many there are besides those listed."""
    told = sum(not finding.is_notice for finding in findings)
    if errors > told:
        print(f"{of}: {errors - told} more findings")


def _tell_anchors(anchors: AnchorsReport, anchor: str = "anchor") -> int:
    """Gives how much is wrong."""
    _tell(anchors.findings, anchor)
    _tell_rest(f"{anchor}s", anchors.findings, anchors.errors)
    if anchors.anchors:
        print(f"{anchors.anchors} {anchor}s; the newest is {anchors.head_number}:{anchors.head_hash.hex()}", flush=True)
    else:
        print(f"no {anchor}s", flush=True)
    return anchors.errors


def _noted(option: str, texts: list[str]) -> list[tuple[int, bytes]]:
    noted = []
    for text in texts:
        number, _, hash_ = text.partition(":")
        try:
            noted.append((int(number), bytes.fromhex(hash_)))
        except ValueError as error:
            raise SettingsError(f"{option}: not NUMBER:HASH, as `vsay audit verify` prints them: {text!r}") from error
    return noted


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
