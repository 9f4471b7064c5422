"""The screen of a session at any moment: drawn from the last keyframe before it, and the events from there on."""

import asyncio
from typing import Final

from msgspec import Struct

from contracts.api import ScreenFormat
from contracts.events import KeyframeTaken, OutputProduced, SessionClaimed, TerminalResized
from contracts.wire import Recorded
from services.session_api import past
from services.session_api.gateway import Gateway
from services.session_api.history import History
from terminal.emulator import Emulator

BATCH_BYTES: Final = 1024 * 1024
"""Output that is drawn at once, in a thread, so that other requests go on."""


class ScreenAt(Struct, frozen=True):
    """A screen in one of the formats, as it was after event `seq`, which was recorded `at` (microseconds; 0 before the first)."""

    body: bytes
    seq: int
    at: int
    cols: int
    rows: int


async def screen_at(
    gateway: Gateway, history: History, session_id: str, format_: ScreenFormat, *, seq: int | None = None, at: int | None = None
) -> ScreenAt:
    """The screen after event `seq`, or at the time `at` (microseconds), or now; of a later moment, the last there is."""
    head_seq = await past.head_seq(gateway, history, session_id)
    last_seq = head_seq if seq is None else min(seq, head_seq)
    keyframe = await history.keyframe(session_id, up_to_seq=last_seq, up_to_at=at)
    player = _Player(keyframe)
    async for recorded in past.events(gateway, history, session_id, after_seq=player.seq, up_to_seq=last_seq):
        if at is not None and recorded.at > at:
            break
        player.take(recorded)
        if player.waiting_bytes >= BATCH_BYTES:
            await asyncio.to_thread(player.play)
    return await asyncio.to_thread(player.show, format_)


class _Player:
    """Gathers events with `take` and draws them with `play`."""

    def __init__(self, keyframe: Recorded | None) -> None:
        self.seq = 0
        self.at = 0
        self.waiting_bytes = 0
        self._waiting: list[bytes | tuple[int, int]] = []
        self._emulator = Emulator(80, 24)
        if keyframe and isinstance(frame := keyframe.event(), KeyframeTaken):
            self._emulator = Emulator(frame.cols, frame.rows)
            self._emulator.write(keyframe.data)
            self.seq, self.at = frame.shown_seq, keyframe.at

    def take(self, recorded: Recorded) -> None:
        """The next event."""
        self.seq, self.at = recorded.seq, max(self.at, recorded.at)
        if recorded.type == _OUTPUT:
            self._waiting.append(recorded.data)
            self.waiting_bytes += len(recorded.data)
        elif recorded.type in _SIZED:
            match recorded.event():
                case SessionClaimed(cols=cols, rows=rows) | TerminalResized(cols, rows):
                    self._waiting.append((cols, rows))

    def play(self) -> None:
        """Draw what was taken."""
        for each in self._waiting:
            if isinstance(each, bytes):
                self._emulator.write(each)
            elif each != (self._emulator.cols, self._emulator.rows):
                self._emulator.resize(*each)
        self._waiting, self.waiting_bytes = [], 0

    def show(self, format_: ScreenFormat) -> ScreenAt:
        """The screen after everything."""
        self.play()
        emulator = self._emulator
        match format_:
            case ScreenFormat.TEXT:
                body = emulator.text() + "\n"
            case ScreenFormat.ANSI:
                return ScreenAt(emulator.screen().data, self.seq, self.at, emulator.cols, emulator.rows)
            case ScreenFormat.HTML:
                body = f'<!doctype html>\n<meta charset="utf-8">\n<title>Screen</title>\n{emulator.html()}\n'
        return ScreenAt(body.encode(), self.seq, self.at, emulator.cols, emulator.rows)


_OUTPUT: Final = str(OutputProduced.__struct_config__.tag)
_SIZED: Final = frozenset(str(kind.__struct_config__.tag) for kind in (SessionClaimed, TerminalResized))
