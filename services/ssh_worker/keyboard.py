"""Inputs and resizes that wait for the machine, in the order in which they came."""

import asyncio
from collections import deque
from typing import Final

from nats.aio.msg import Msg

from contracts.commands import Input, Resize

REQUESTS_MAX: Final = 64
"""Of all viewers; each sends its next only after the reply to the one before."""

type Typing = tuple[Msg, Input | Resize]


class Keyboard:
    """A bounded queue for one reader."""

    def __init__(self) -> None:
        self._waiting: deque[Typing] = deque()
        self._wake = asyncio.Event()

    @property
    def is_full(self) -> bool:
        """Whether `put` would go beyond the bound."""
        return len(self._waiting) >= REQUESTS_MAX

    def put(self, message: Msg, command: Input | Resize) -> None:
        """Append a request; look at `is_full` before."""
        self._waiting.append((message, command))
        self._wake.set()

    async def next(self) -> tuple[Msg, Input | Resize, bool]:
        """The oldest request, and whether it is a resize that another one right behind it makes needless."""
        while not self._waiting:
            self._wake.clear()
            await self._wake.wait()
        message, command = self._waiting.popleft()
        is_overtaken = isinstance(command, Resize) and bool(self._waiting) and isinstance(self._waiting[0][1], Resize)
        return message, command, is_overtaken
