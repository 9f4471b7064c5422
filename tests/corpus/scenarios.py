"""What is typed into which shell, and what a truthful log says about it.

A step is text (typed at once, then it is waited until the shell rests) or one of the classes below. Expected commands are texts, or
(context, text) where it was not the login shell that read the line.
"""

import shutil
from collections.abc import Mapping
from typing import NamedTuple

from tests.corpus.shells import Shell

type Command = str | tuple[str, str]


class Slowly(NamedTuple):
    """Key by key, each after the echo of the one before."""

    keys: str


class Ahead(NamedTuple):
    """Keys, without waiting for anything."""

    keys: str


class Until(NamedTuple):
    """Keys, typed at once; then it is waited until this is shown, and until the shell rests."""

    keys: str
    text: str


class Pause(NamedTuple):
    """Hands off the keys, too short for the terminal to count as quiet."""

    seconds: float


class Resize(NamedTuple):
    """The terminal has another size from here on."""

    cols: int
    rows: int


type Step = str | Until | Slowly | Ahead | Pause | Resize

BASH = ("bash", "--noprofile", "--norc")
ZSH = ("zsh", "-f")
FISH = ("fish",)
DASH = ("dash",)
ASH = ("busybox", "ash")
PYTHON = ("python3", "-q")

SECRET = "correct-horse-battery"
"""What is typed where nothing is echoed."""

UP, DOWN, LEFT, RIGHT, HOME, END = "\x1b[A", "\x1b[B", "\x1b[D", "\x1b[C", "\x1b[H", "\x1b[F"


class Scenario(NamedTuple):
    """`secrets` are typed and must appear in no observation; `masked`: that something was typed unseen is told."""

    name: str
    shell: tuple[str, ...]
    steps: tuple[Step, ...]
    commands: tuple[Command, ...]
    secrets: tuple[str, ...] = ()
    displayed: tuple[str, ...] = ()
    """Secrets that the terminal shows, as nothing had asked for them yet: in what it shows, and in no other observation."""
    texts: tuple[str, ...] = ()
    """Readable text that must have been told."""
    cols: int = 80
    rows: int = 24
    environment: Mapping[str, str] = {}
    files: Mapping[str, str] = {}
    """In the home directory, by name."""
    needs: tuple[str, ...] = ()
    confidence: str = "screen"
    is_awaited: bool = True
    """Whether typing begins only when the shell rests."""

    @property
    def is_installed(self) -> bool:
        return all(shutil.which(program) for program in (self.shell[0], *self.needs))


def play(scenario: Scenario, shell: Shell) -> None:
    """Do all of it."""
    if scenario.is_awaited:
        shell.rests()
    for step in scenario.steps:
        match step:
            case Slowly(keys):
                shell.type_slowly(keys.encode())
                shell.rests()
            case Ahead(keys):
                shell.type(keys.encode())
            case Pause(seconds):
                shell.reads(seconds)
            case Until(keys, text):
                shell.type(keys.encode())
                shell.shows(text.encode())
                shell.rests()
            case Resize(cols, rows):
                shell.resize(cols, rows)
                shell.rests()
            case str():
                shell.type(step.encode())
                shell.rests()


type Case = tuple[str, tuple[Step, ...], tuple[Command, ...]]

LONG = "echo " + " ".join(f"word{number}" for number in range(40))
PASTED = "\x1b[200~echo one\necho two\x1b[201~"
HEREDOC = ("cat <<END\r", "first\r", "  second\r", "END\r")

EVERYWHERE: tuple[Case, ...] = (
    ("typing", ("echo hello\r", "true\r", Slowly("echo slow\r")), ("echo hello", "true", "echo slow")),
    ("backspace", ("ecko\x7f\x7fho fixed\r", "echo gone\x15true\r"), ("echo fixed", "true")),
    ("empty lines", ("\r", "\r", "   \r", "echo after\r"), ("echo after",)),
    ("aborted", ("echo never\x03", "echo after\r"), ("echo after",)),
    ("quotes continue", ('echo "a\r', 'b"\r', "echo after\r"), ('echo "a\nb"', "echo after")),
    ("backslash continues", ("echo a\\\r", "b\r", "echo after\r"), ("echo a\\\nb", "echo after")),
    ("wrapped", (f"{LONG}\r", "echo after\r"), (LONG, "echo after")),
    ("wide characters", ("echo 日本語テキスト 💾 é\r", "echo after\r"), ("echo 日本語テキスト 💾 é", "echo after")),
    ("plain paste", ("echo one\recho two\recho three\r", "echo after\r"), ("echo one", "echo two", "echo three", "echo after")),
    ("clear", ("echo before\r", "clear\r", "echo after\r"), ("echo before", "clear", "echo after")),
    (
        "typed ahead",
        (Ahead("sleep 1\r"), Pause(0.2), Ahead("echo a''head\r"), Pause(1.5), "true\r"),
        ("sleep 1", "echo a''head", "true"),
    ),
)
HISTORY: tuple[Case, ...] = (
    ("history", ("echo first\r", "true\r", f"{UP}{UP}\r", f"{UP}{UP}{DOWN}\r"), ("echo first", "true", "echo first", "echo first")),
    ("completion", ("ls /usr/loc\tbin\r", "ls /usr/s\t", "rc\r"), ("ls /usr/local/bin", "ls /usr/src")),
    ("edited in the middle", (f"echo world{LEFT * 5}hello \r", "ls\x01echo \r"), ("echo hello world", "echo ls")),
)
EMACS: tuple[Case, ...] = (
    (
        "kill and yank",
        ("echo a b\x17\x19 \x19\r", "echo x\x15true\r", "junk\x01\x0becho \x19\r"),
        ("echo a b b", "true", "echo junk"),
    ),
    ("redrawn", ("echo dra\x0cwn\r", "echo after\r"), ("echo drawn", "echo after")),
    ("bracketed paste", (PASTED, "\r", "echo after\r"), ("echo one\necho two", "echo after")),
    ("pasted and edited", ("\x1b[200~echo one\x1b[201~", "\x7f\x7f\x7ftwo\r"), ("echo two",)),
    (
        "resized in mid-line",
        ("echo re", Resize(50, 20), "sized\r", Resize(100, 30), "echo after\r"),
        ("echo resized", "echo after"),
    ),
)


EMACS_HISTORY: tuple[Case, ...] = (
    (
        "reverse search",
        ("echo needle\r", "true\r", "\x12need\r", "\x12needl", "\r"),
        ("echo needle", "true", "echo needle", "echo needle"),
    ),
    ("here-document", (*HEREDOC, "echo after\r"), ("cat <<END\nfirst\n  second\nEND", "echo after")),
)


def in_shell(shell: tuple[str, ...], *groups: tuple[Case, ...]) -> list[Scenario]:
    """The cases of these groups, in this shell."""
    name = shell[-1] if shell[0] == "busybox" else shell[0]
    return [
        Scenario(f"{name}-{what.replace(' ', '-')}", shell, steps, commands) for group in groups for what, steps, commands in group
    ]
