"""Scenarios of typing before anything asks for it: the terminal's driver echoes the keys, and the shell reads them later.

What a shell without a line editor (dash) was given is told by its prompts: each takes one line. bash 5.2 loses what was typed
behind a `read -s`.
"""

from tests.corpus.scenarios import ASH, BASH, DASH, FISH, SECRET, ZSH, Ahead, Command, Pause, Scenario, Step, Until

READ_SECRET = "read -s x"
READ_UNSEEN = "stty -echo; read x; stty echo"
SLOW_QUESTION = "sleep 1; read -sp 'Password: ' x"
DASH_QUESTION = "sleep 1; printf 'Password: '; stty -echo; read x; stty echo"
GETPASS = "python3 -c 'import getpass, time; time.sleep(1); getpass.getpass()'"
PLAIN = ("echo one", "true", "echo two")


def before_the_prompt(name: str, shell: tuple[str, ...], typed: tuple[str, ...], commands: tuple[Command, ...]) -> Scenario:
    """All of it is typed before the shell has drawn its first prompt."""
    hidden = (SECRET,) if SECRET in typed else ()
    keys = "".join(f"{line}\r" for line in typed)
    return Scenario(
        name, shell, (Ahead(keys), Pause(1.5), "echo after\r"), (*commands, "echo after"), displayed=hidden, is_awaited=False
    )


def while_one_runs(name: str, shell: tuple[str, ...], typed: tuple[str, ...], commands: tuple[Command, ...]) -> Scenario:
    """The lines are typed while `sleep` runs."""
    hidden = (SECRET,) if SECRET in typed else ()
    keys = "".join(f"{line}\r" for line in typed)
    steps: tuple[Step, ...] = (Ahead("sleep 1\r"), Pause(0.3), Ahead(keys), Pause(2.0), "echo after\r")
    return Scenario(name, shell, steps, ("sleep 1", *commands, "echo after"), displayed=hidden)


SHELLS = {"bash": BASH, "zsh": ZSH, "fish": FISH, "dash": DASH, "ash": ASH}

TYPED_AHEAD = (
    *(before_the_prompt(f"{name}-before-its-prompt", shell, PLAIN, PLAIN) for name, shell in SHELLS.items()),
    *(while_one_runs(f"{name}-while-one-runs", shell, PLAIN, PLAIN) for name, shell in SHELLS.items()),
    before_the_prompt("bash-read-s-before-its-prompt", BASH, (READ_SECRET, SECRET, "true"), (READ_SECRET,)),
    *(
        before_the_prompt(f"{name}-read-s-before-its-prompt", SHELLS[name], (READ_SECRET, SECRET, "true"), (READ_SECRET, "true"))
        for name in ("zsh", "fish", "ash")
    ),
    before_the_prompt("dash-read-before-its-prompt", DASH, (READ_UNSEEN, SECRET, "true"), (READ_UNSEEN,)),
    *(
        while_one_runs(f"{name}-read-s-while-one-runs", SHELLS[name], (READ_SECRET, SECRET, "true"), (READ_SECRET, "true"))
        for name in ("zsh", "fish", "ash")
    ),
    while_one_runs("bash-read-s-while-one-runs", BASH, (READ_SECRET, SECRET, "true"), (READ_SECRET,)),
    while_one_runs("dash-read-while-one-runs", DASH, (READ_UNSEEN, SECRET, "true"), ()),
    while_one_runs("bash-completion-while-one-runs", BASH, ("ls /usr/loc\tbin", "true"), ("ls /usr/local/bin", "true")),
    Scenario(
        "bash-password-before-it-is-asked-for",
        BASH,
        (Ahead(f"{SLOW_QUESTION}\r"), Pause(0.3), Until(f"{SECRET}\r", "Password: "), "echo after\r"),
        (SLOW_QUESTION, "echo after"),
        displayed=(SECRET,),
    ),
    Scenario(
        "dash-password-before-it-is-asked-for",
        DASH,
        (Ahead(f"{DASH_QUESTION}\r"), Pause(0.3), Until(f"{SECRET}\r", "Password: "), "echo after\r"),
        (DASH_QUESTION, "echo after"),
        displayed=(SECRET,),
    ),
    Scenario(
        "bash-getpass-before-it-asks",
        BASH,
        (Ahead(f"{GETPASS}\r"), Pause(0.3), Until(f"{SECRET}\r", "Password: "), f"{SECRET}\r", "echo after\r"),
        (GETPASS, "echo after"),
        displayed=(SECRET,),
    ),
    Scenario(
        "dash-cat",
        DASH,
        ("cat\r", "to cat\r", "again\r", "\x04", "echo after\r"),
        ("cat", ("cat", "to cat"), ("cat", "again"), "echo after"),
    ),
)
