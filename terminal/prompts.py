"""Prompts: which belong to a command that goes on, what reads lines at them, and where on the screen one begins."""

import re
from collections.abc import Iterable, Sequence
from typing import Final
from unicodedata import east_asian_width

from msgspec import Struct

_ZSH_CONSTRUCTS: Final = (
    "quote|dquote|bquote|heredoc|heredocd|cmdsubst|mathsubst|for|while|until|repeat|select|if|then|elif|else|pipe|errpipe|cmdand|cmdor"
    "|function|case|subsh|cursh|math|array|bracecond|braceparam|backquote"
)
_CONTINUATION: Final = re.compile(
    rf"(?:(?:{_ZSH_CONSTRUCTS})(?: (?:{_ZSH_CONSTRUCTS}))*)?> ?| *\.\.\.[:>]? ?| *-> ?| +(?:['\"`]|/\*)> ?|[\w.]+[-'\"(*$^!][#>] ?"
)
"""Secondary prompts: PS2 of POSIX shells, PROMPT2 of zsh, sys.ps2 of Python, and those of IPython, sqlite3, mysql and psql."""

_CONTEXTS: Final = (
    (re.compile(r"(?:>>> |\.\.\. |In \[\d+\]: )$"), "python"),
    (re.compile(r"(?:mysql|MariaDB \[[^\]]*\])> $"), "mysql"),
    (re.compile(r"^[\w.-]+=[*!^]?[#>] $"), "psql"),
    (re.compile(r"^[\w.-]+:\d+(?:\[\d+\])?> $"), "redis"),
    (re.compile(r"^sqlite> $"), "sqlite"),
    (re.compile(r"^read> $"), "read"),
)

_SECRET_QUESTION: Final = re.compile(r"(?:pass(?:word|phrase|code|wort)|secret|token|\bpin|\botp)\b[^:]{0,40}[:?>]", re.IGNORECASE)
_SECRET_PROMPT: Final = re.compile(rf"{_SECRET_QUESTION.pattern}\s*$", re.IGNORECASE)
_VEILED: Final = re.compile(r"[●•*]+")
"""What fish and others show in place of a secret."""


class Look(Struct, frozen=True):
    """What stands on the screen from the prompt of the line editor to the cursor, one string a logical line."""

    lines: tuple[str, ...]
    prompt: str | None
    """That `lines[0]` begins with; None when none was recognized, and `lines` is the cursor's alone."""


def is_continuation(line: str) -> bool:
    """Whether `line` is a secondary prompt, so that the line before it is not a whole command."""
    return bool(line) and _CONTINUATION.fullmatch(line) is not None


def look(line: str, above: Iterable[str], prompts: Sequence[str]) -> Look:
    """From the cursor's `line` upwards to the line that begins with one of `prompts`; of several, with the first of them."""
    found: list[str] = []
    for each in (line, *above):
        found.insert(0, each)
        for prompt in prompts:
            if each.startswith(prompt) or each == prompt.rstrip():
                return Look(tuple(found), prompt)
    return Look((line,), None)


def context(prompt: str) -> str:
    """What reads lines at this prompt, when its shape tells; else empty."""
    return next((name for pattern, name in _CONTEXTS if pattern.search(prompt)), "")


def is_for_secret(prompt: str) -> bool:
    """Whether `prompt` asks for a secret."""
    return _SECRET_PROMPT.search(prompt) is not None


def asks_for_secret(line: str) -> bool:
    """Whether a question for a secret stands somewhere in `line`."""
    return _SECRET_QUESTION.search(line) is not None


def is_veiled(text: str) -> bool:
    """Whether `text` stands in place of a secret that was typed."""
    return _VEILED.fullmatch(text) is not None


def continued(look: Look, *, indents: bool) -> Sequence[str]:
    """The lines of a command behind its first, less what the editor has put before them."""
    prompt, rest = look.prompt or "", look.lines[1:]
    if context(prompt):
        return [_CONTINUATION.sub("", each, count=1) for each in rest]
    width = sum(2 if east_asian_width(character) in "WF" else 1 for character in prompt)
    if indents and all(each[:width].isspace() for each in rest):
        return [each[width:] for each in rest]
    return rest
