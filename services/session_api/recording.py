"""A session's recording in the formats that players read. Pure: recorded events in, pieces of the file out.

Sources: asciicast v2 and v3 (https://docs.asciinema.org/manual/asciicast/v3/), script(1) of util-linux with its
advanced timing format (`--log-out`, `--log-timing`; scriptreplay(1)).
"""

import codecs
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Final, Protocol

import msgspec

from contracts.api import RecordingFormat, RecordingPart
from contracts.events import CommandEntered, OutputProduced, SessionClaimed, SessionEnded, SessionStarted, TerminalResized
from contracts.wire import Recorded

MARKER_CHARACTERS_MAX: Final = 200
"""Of a command line, as the label of its marker."""

SECOND: Final = 1_000_000
"""Times of events are in microseconds."""


class Rendering(Protocol):
    """Gets a session's events in order and gives the bytes of the file: `event` for each, then `end` once."""

    def event(self, recorded: Recorded) -> bytes:
        """What this event adds; often nothing."""
        ...

    def end(self) -> bytes:
        """What closes the file."""
        ...


def rendering(format_: RecordingFormat, part: RecordingPart) -> Rendering:
    """A new file of this format; `part` matters to `typescript` alone, which is two files."""
    match format_, part:
        case RecordingFormat.RAW, _:
            return Raw()
        case RecordingFormat.TYPESCRIPT, RecordingPart.TIMING:
            return TypescriptTiming()
        case RecordingFormat.TYPESCRIPT, _:
            return Typescript()
        case _:
            return Asciicast(3 if format_ is RecordingFormat.ASCIICAST_V3 else 2)


async def written(events: AsyncIterator[Recorded], format_: RecordingFormat, part: RecordingPart) -> AsyncIterator[bytes]:
    """The file of `events`, in pieces."""
    file = rendering(format_, part)
    async for recorded in events:
        if piece := file.event(recorded):
            yield piece
    yield file.end()


class Raw:
    """The output's bytes and nothing else."""

    def event(self, recorded: Recorded) -> bytes:
        """The bytes of an output event."""
        return recorded.data if recorded.type == _OUTPUT else b""

    def end(self) -> bytes:
        """Nothing."""
        return b""


class _Clock:
    """Time since the shell started, which never goes back, whatever the worker's clock did."""

    def __init__(self) -> None:
        self.start = 0
        self._now = 0
        self._told = 0

    def begin(self, at: int) -> None:
        """The file's time begins."""
        self.start = self._now = self._told = at

    def elapsed(self, at: int) -> int:
        """Microseconds from the beginning to `at`."""
        self._now = max(self._now, at)
        return self._now - self.start

    def passed(self, at: int) -> int:
        """Microseconds from the last call to this one."""
        self._now = max(self._now, at)
        passed, self._told = self._now - self._told, self._now
        return passed


class Asciicast:
    """Output as text: characters that events cut are joined, and bytes that are no UTF-8 become U+FFFD."""

    def __init__(self, version: int) -> None:
        self._version = version
        self._clock = _Clock()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._claimed: SessionClaimed | None = None
        self._has_header = False
        self._last_at = 0

    def event(self, recorded: Recorded) -> bytes:
        """The header with the first event after the request, and a line for what a player shows."""
        if recorded.type not in _PLAYED:
            return b""
        if recorded.type == _CLAIMED:
            self._clock.begin(recorded.at)
            claimed = recorded.event()
            self._claimed = claimed if isinstance(claimed, SessionClaimed) else None
            return b""
        header = self._header(recorded.at)
        self._last_at = recorded.at
        if recorded.type == _OUTPUT:
            text = self._decoder.decode(recorded.data)
            return header + (self._line(recorded.at, "o", text) if text else b"")
        match recorded.event():
            case TerminalResized(cols, rows):
                return header + self._line(recorded.at, "r", f"{cols}x{rows}")
            case CommandEntered(text=text):
                return header + self._line(recorded.at, "m", _label(text))
            case SessionEnded(exit_status=int() as status) if self._version == 3:
                return header + self._rest() + self._line(recorded.at, "x", str(status))
        return header

    def end(self) -> bytes:
        """The rest of a character that was never finished."""
        return self._header(self._clock.start) + self._rest()

    def _rest(self) -> bytes:
        text = self._decoder.decode(b"", final=True)
        return self._line(self._last_at, "o", text) if text else b""

    def _header(self, at: int) -> bytes:
        """The first line, once; the file's time begins with it."""
        if self._has_header:
            return b""
        self._has_header = True
        self._clock.begin(at)
        cols, rows, title = 80, 24, ""
        if self._claimed:
            cols, rows, title = self._claimed.cols, self._claimed.rows, f"{self._claimed.user.name} on {self._claimed.machine.name}"
        size: dict[str, object] = {"term": {"cols": cols, "rows": rows}} if self._version == 3 else {"width": cols, "height": rows}
        return _json.encode({"version": self._version, **size, "timestamp": at // SECOND, "title": title}) + b"\n"

    def _line(self, at: int, code: str, data: str) -> bytes:
        """`[time, code, data]`; the time is since the beginning (v2), or since the line before (v3)."""
        time = self._clock.passed(at) if self._version == 3 else self._clock.elapsed(at)
        return b'[%s, "%s", %s]\n' % (_seconds(time).encode(), code.encode(), _json.encode(data))


class Typescript:
    """What script(1) writes with `--log-out`: the output's bytes between a first and a last line of its own."""

    def __init__(self) -> None:
        self._size = ""
        self._has_begun = False
        self._last_at = 0
        self._exit = ""

    def event(self, recorded: Recorded) -> bytes:
        """The bytes of an output event; before the first, the line that players skip."""
        self._last_at = recorded.at
        if recorded.type == _OUTPUT:
            return self._begin() + recorded.data
        if recorded.type in (_CLAIMED, _ENDED):
            match recorded.event():
                case SessionClaimed(cols=cols, rows=rows):
                    self._size = f' [COLUMNS="{cols}" LINES="{rows}"]'
                case SessionEnded(exit_status=int() as status):
                    self._exit = f' [COMMAND_EXIT_CODE="{status}"]'
        return b""

    def end(self) -> bytes:
        """The last line."""
        return self._begin() + f"\nScript done on {_date(self._last_at)}{self._exit}\n".encode()

    def _begin(self) -> bytes:
        if self._has_begun:
            return b""
        self._has_begun = True
        return f"Script started on {_date(self._last_at)}{self._size}\n".encode()


class TypescriptTiming:
    """What script(1) writes with `--log-timing` beside it: how many bytes after how many seconds, and what else happened."""

    def __init__(self) -> None:
        self._clock = _Clock()
        self._has_begun = False

    def event(self, recorded: Recorded) -> bytes:
        """A line for each output and resize; the header with the request."""
        if recorded.type == _OUTPUT:
            return self._begin(recorded.at) + self._line("O", recorded.at, str(len(recorded.data)))
        if recorded.type not in _TIMED:
            return b""
        match recorded.event():
            case SessionClaimed(cols=cols, rows=rows):
                return self._begin(recorded.at) + f"H 0.000000 COLUMNS {cols}\nH 0.000000 LINES {rows}\n".encode()
            case SessionStarted():
                self._clock.begin(recorded.at)
            case TerminalResized(cols, rows):
                return self._begin(recorded.at) + self._line("S", recorded.at, f"SIGWINCH ROWS={rows} COLS={cols}")
            case SessionEnded(exit_status=status):
                duration = f"H 0.000000 DURATION {_seconds(self._clock.elapsed(recorded.at))}\n"
                exit_code = "" if status is None else f"H 0.000000 EXIT_CODE {status}\n"
                return self._begin(recorded.at) + (duration + exit_code).encode()
        return b""

    def end(self) -> bytes:
        """Nothing."""
        return b""

    def _begin(self, at: int) -> bytes:
        if self._has_begun:
            return b""
        self._has_begun = True
        self._clock.begin(at)
        return f"H 0.000000 START_TIME {_date(at)}\n".encode()

    def _line(self, kind: str, at: int, rest: str) -> bytes:
        return f"{kind} {_seconds(self._clock.passed(at))} {rest}\n".encode()


_json = msgspec.json.Encoder()

_CLAIMED: Final = str(SessionClaimed.__struct_config__.tag)
_OUTPUT: Final = str(OutputProduced.__struct_config__.tag)
_ENDED: Final = str(SessionEnded.__struct_config__.tag)
_TIMED: Final = frozenset(
    str(kind.__struct_config__.tag) for kind in (SessionClaimed, SessionStarted, TerminalResized, SessionEnded)
)
_PLAYED: Final = _TIMED | {_OUTPUT, str(CommandEntered.__struct_config__.tag)}


def _label(command: str) -> str:
    return command if len(command) <= MARKER_CHARACTERS_MAX else f"{command[: MARKER_CHARACTERS_MAX - 1]}…"


def _seconds(microseconds: int) -> str:
    return f"{microseconds // SECOND}.{microseconds % SECOND:06}"


def _date(at: int) -> str:
    return f"{datetime.fromtimestamp(at / SECOND, UTC):%Y-%m-%d %H:%M:%S+00:00}"
