"""Bytes of a terminal in, observations out: echo, commands, readable text and the screen. Pure: no I/O, no clock."""

from terminal.emulator import Screen
from terminal.observations import CommandEntered, CommandFinished, InputEchoed, InputMasked, Observation, TextShown
from terminal.observer import Observer

__all__ = ["CommandEntered", "CommandFinished", "InputEchoed", "InputMasked", "Observation", "Observer", "Screen", "TextShown"]
