"""The corpus: every case in every shell that knows it."""

from services.ssh_worker.shell_integration import COMMAND
from tests.corpus.containers import CONTAINERS
from tests.corpus.databases import DATABASES
from tests.corpus.logins import LOGINS
from tests.corpus.scenarios import (
    ASH,
    BASH,
    DASH,
    EMACS,
    EMACS_HISTORY,
    EVERYWHERE,
    FISH,
    HISTORY,
    PYTHON,
    SECRET,
    UP,
    ZSH,
    Ahead,
    Case,
    Pause,
    Scenario,
    Slowly,
    Until,
    in_shell,
)
from tests.corpus.typed_ahead import TYPED_AHEAD

PASSWORD = 'import getpass; getpass.getpass("Password: "); print("accepted")'
GETPASS = f"python3 -c '{PASSWORD}'"
READ_SECRET = "read -s x"
SU = "su nobody -s /bin/sh -c 'su -c id'"
PASSPHRASE = "ssh-keygen -q -t ed25519 -f key"
PROGRESS = r"for i in 1 2 3; do printf '\r%d%%' $((i * 33)); sleep 0.1; done; printf '\r100%%\n'"

PROMPTS = (
    Scenario(
        "bash-changing-prompt",
        BASH,
        ("cd /usr\r", "echo in usr\r", "cd lib\r", "pwd\r", "PS1='now> '\r", "echo other\r"),
        ("cd /usr", "echo in usr", "cd lib", "pwd", "PS1='now> '", "echo other"),
        environment={"PS1": r"\w \$ "},
    ),
    Scenario(
        "bash-prompt-of-several-lines",
        BASH,
        ("echo one\r", f"{UP}\r", "false\r", 'echo "a\r', 'b"\r'),
        ("echo one", "echo one", "false", 'echo "a\nb"'),
        environment={"PS1": r"\n┌─(\u)─[\w]\n└─\$ "},
    ),
    Scenario(
        "bash-coloured-prompt",
        BASH,
        ("echo one\r", "ech\x7f\x7f\x7ftrue\r"),
        ("echo one", "true"),
        environment={"PS1": r"\[\e]0;\w\a\]\[\e[1;32m\]\u@host\[\e[0m\]:\[\e[34m\]\w\[\e[0m\]\$ "},
    ),
    Scenario(
        "bash-prompt-like-a-secondary-one",
        BASH,
        ("echo one\r", "echo two\r", 'echo "a\r', 'b"\r'),
        ("echo one", "echo two", 'echo "a', 'b"'),
        environment={"PS1": "> "},
    ),
    Scenario(
        "zsh-right-prompt",
        ZSH,
        ("echo one\r", f"{UP}\r", f"echo {'x' * 60}\r", 'echo "a\r', 'b"\r', f"{UP}\r", "printf partial\r", "echo after\r"),
        ("echo one", "echo one", f"echo {'x' * 60}", 'echo "a\nb"', 'echo "a\nb"', "printf partial", "echo after"),
        texts=("partial",),
        environment={"RPROMPT": "%~ right %T"},
    ),
    Scenario(
        "zsh-prompt-that-shrinks",
        ZSH,
        (
            "zle-line-finish() { PROMPT='> '; zle reset-prompt; PROMPT='%n at %m %# ' }; zle -N zle-line-finish\r",
            "echo one\r",
            f"{UP}\r",
            "true\r",
        ),
        (
            "zle-line-finish() { PROMPT='> '; zle reset-prompt; PROMPT='%n at %m %# ' }; zle -N zle-line-finish",
            "echo one",
            "echo one",
            "true",
        ),
    ),
    Scenario(
        "fish-suggestion",
        FISH,
        ("echo suggested\r", "echo sug", "\r", "echo sugg", "\x1b[C", "\r"),
        ("echo suggested", "echo sug", "echo suggested"),
    ),
    Scenario(
        "fish-abbreviation",
        FISH,
        ("abbr -a ee 'echo expanded'\r", "ee\r", "ee x\r"),
        ("abbr -a ee 'echo expanded'", "echo expanded", "echo expanded x"),
    ),
    Scenario(
        "fish-block",
        FISH,
        ("for i in 1 2\r", "echo $i\r", "end\r", f"{UP}\r", "echo after\r"),
        ("for i in 1 2\necho $i\nend", "for i in 1 2\n    echo $i\nend", "echo after"),
    ),
)

NESTED = (
    Scenario(
        "bash-in-bash",
        BASH,
        ("PS1='inner# ' bash --norc\r", "echo inside\r", "exit\r", "echo outside\r"),
        ("PS1='inner# ' bash --norc", "echo inside", "exit", "echo outside"),
    ),
    Scenario(
        "bash-su",
        BASH,
        (Until("su -s /bin/bash\r", "# "), "echo inside\r", "exit\r", "echo outside\r"),
        ("su -s /bin/bash", "echo inside", "exit", "echo outside"),
    ),
    Scenario(
        "bash-zsh-dash",
        BASH,
        ("zsh -f\r", "echo z\r", "PS1='d> ' dash\r", "echo d\r", "exit\r", "exit\r", "echo outside\r"),
        ("zsh -f", "echo z", "PS1='d> ' dash", ("dash", "echo d"), ("dash", "exit"), "exit", "echo outside"),
        needs=("zsh", "dash"),
    ),
    Scenario("dash-bash", DASH, ("bash --norc\r", "echo b\r", "exit\r", "echo d\r"), ("bash --norc", "echo b", "exit", "echo d")),
)

PROGRAMS = (
    Scenario(
        "bash-python-3.13",
        BASH,
        (
            Until("python3 -q\r", ">>> "),
            "1+1\r",
            "for i in range(2):\r",
            "  print(i)\r",
            "\r",
            "\x1bOA",
            "\r",
            "\r",
            "\x04",
            "echo after\r",
        ),
        (
            "python3 -q",
            ("python", "1+1"),
            ("python", "for i in range(2):\n      print(i)"),
            ("python", "for i in range(2):\n      print(i)"),
            "echo after",
        ),
        environment={"PYENV_VERSION": "3.13.0"},
    ),
    Scenario(
        "bash-python-basic",
        BASH,
        (
            Until("PYTHON_BASIC_REPL=1 python3 -q\r", ">>> "),
            "1+1\r",
            "for i in range(2):\r",
            "  print(i)\r",
            "\r",
            "exit()\r",
            "echo after\r",
        ),
        (
            "PYTHON_BASIC_REPL=1 python3 -q",
            ("python", "1+1"),
            ("python", "for i in range(2):\n  print(i)"),
            ("python", "exit()"),
            "echo after",
        ),
    ),
    Scenario(
        "bash-sqlite",
        BASH,
        (Until("sqlite3\r", "sqlite> "), "select 1,\r", "2;\r", ".quit\r", "echo after\r"),
        ("sqlite3", ("sqlite", "select 1,\n2;"), ("sqlite", ".quit"), "echo after"),
        needs=("sqlite3",),
    ),
    Scenario(
        "bash-answers",
        BASH,
        ("read -p 'Sure? ' x\r", "yes\r", "cat\r", "to cat\r", "\x04", "echo after\r"),
        ("read -p 'Sure? ' x", ("read", "yes"), "cat", ("cat", "to cat"), "echo after"),
    ),
    Scenario(
        "bash-vim",
        BASH,
        ("vim -u NONE file\r", "ihello\r:q!\r", "\x1b", ":wq\r", "cat file\r"),
        ("vim -u NONE file", "cat file"),
        texts=("[full-screen program]", "hello\n:q!"),
        needs=("vim",),
    ),
    Scenario(
        "bash-less",
        BASH,
        ("seq 100 | less\r", " ", "/50\r", "q", "echo after\r"),
        ("seq 100 | less", "echo after"),
        texts=("[full-screen program]",),
        needs=("less",),
    ),
    Scenario(
        "bash-tmux",
        BASH,
        ("tmux -L corpus -f /dev/null new bash --norc\r", "echo inside\r", "exit\r", "echo after\r"),
        ("tmux -L corpus -f /dev/null new bash --norc", "echo after"),
        texts=("[full-screen program]",),
        needs=("tmux",),
    ),
    Scenario(
        "bash-output-while-typing",
        BASH,
        ("(sleep 0.5; echo noise) &\r", Ahead("echo ty"), Pause(0.9), "ped\r", "echo after\r"),
        ("(sleep 0.5; echo noise) &", "echo typed", "echo after"),
        confidence="",
    ),
    Scenario(
        "bash-progress",
        BASH,
        (f"{PROGRESS}\r", Pause(0.5), "printf partial\r", "printf 'a\\nb'\r"),
        (PROGRESS, "printf partial", "printf 'a\\nb'"),
        texts=("100%", "partial", "a\nb"),
    ),
    Scenario(
        "bash-flood",
        BASH,
        ("seq 20000\r", "echo after\r"),
        ("seq 20000", "echo after"),
        texts=("1\n2\n3\n", "characters left out", "19999\n20000"),
    ),
    Scenario(
        "bash-interrupted-flood",
        BASH,
        (Ahead("while sleep 0.01; do seq 9; done\r"), Pause(0.3), "\x03", "echo after\r"),
        ("while sleep 0.01; do seq 9; done", "echo after"),
    ),
)

SECRETS = (
    Scenario("bash-read-s", BASH, ("read -s x\r", f"{SECRET}\r", "echo after\r"), ("read -s x", "echo after"), (SECRET,)),
    Scenario(
        "bash-read-s-prompt",
        BASH,
        ("read -sp 'Secret: ' x; echo\r", Slowly(SECRET), "\r", "echo after\r"),
        ("read -sp 'Secret: ' x; echo", "echo after"),
        (SECRET, SECRET[:5]),
    ),
    Scenario(
        "bash-getpass",
        BASH,
        (Until(f"{GETPASS}\r", "\rPassword: "), f"{SECRET}\r", "echo after\r"),
        (GETPASS, "echo after"),
        (SECRET,),
        texts=("accepted",),
    ),
    Scenario(
        "bash-getpass-corrected",
        BASH,
        (Until(f"{GETPASS}\r", "\rPassword: "), f"{SECRET}x\x7f\r", "echo after\r"),
        (GETPASS, "echo after"),
        (SECRET,),
        texts=("accepted",),
    ),
    Scenario("bash-read-s-aborted", BASH, ("read -s x\r", f"{SECRET}\x03", "echo after\r"), ("read -s x", "echo after"), (SECRET,)),
    Scenario(
        "bash-su-password",
        BASH,
        (Until(f"{SU}\r", "Password: "), Until(f"{SECRET}\r", "failure"), "echo after\r"),
        (SU, "echo after"),
        (SECRET,),
        texts=("Authentication failure",),
    ),
    Scenario(
        "bash-passphrase",
        BASH,
        (Until(f"{PASSPHRASE}\r", "passphrase"), f"{SECRET}\r", f"{SECRET}\r", "echo after\r"),
        (PASSPHRASE, "echo after"),
        (SECRET,),
        needs=("ssh-keygen",),
    ),
    Scenario(
        "bash-stty-no-echo",
        BASH,
        ("stty -echo; cat >/dev/null; stty echo\r", f"{SECRET}\r", f"{SECRET}2\r", "\x04", "echo after\r"),
        ("stty -echo; cat >/dev/null; stty echo", "echo after"),
        (SECRET,),
    ),
    Scenario(
        "bash-secret-in-vim",
        BASH,
        ("vim -u NONE file\r", f":call inputsecret('Key: ')\r{SECRET}\r:q!\r", "echo after\r"),
        ("vim -u NONE file", "echo after"),
        (SECRET,),
        needs=("vim",),
    ),
    Scenario("zsh-read-s", ZSH, ("read -s x\r", f"{SECRET}\r", "echo after\r"), ("read -s x", "echo after"), (SECRET,)),
    Scenario("fish-read-s", FISH, ("read -s x\r", f"{SECRET}\r", "echo after\r"), ("read -s x", "echo after"), (SECRET,)),
    Scenario(
        "dash-stty",
        DASH,
        ("stty -echo; read x; stty echo\r", f"{SECRET}\r", "echo after\r"),
        ("stty -echo; read x; stty echo", "echo after"),
        (SECRET,),
    ),
    Scenario("ash-read-s", ASH, ("read -s x\r", f"{SECRET}\r", "echo after\r"), ("read -s x", "echo after"), (SECRET,)),
    Scenario(
        "python-getpass",
        PYTHON,
        (Until("", ">>> "), "import getpass\r", Until("x = getpass.getpass()\r", "Password: "), f"{SECRET}\r", "1+1\r"),
        (("python", "import getpass"), ("python", "x = getpass.getpass()"), ("python", "1+1")),
        (SECRET,),
    ),
)


def with_marks(shell: str, *cases: Case) -> list[Scenario]:
    return [
        Scenario(
            f"marks-{shell}-{what.replace(' ', '-')}",
            ("sh", "-c", COMMAND),
            steps,
            commands,
            environment={"SHELL": f"/usr/bin/{shell}", "PROMPT": "$ "},
            needs=(shell,),
            confidence="exact",
        )
        for what, steps, commands in cases
    ]


MARKED: tuple[Case, ...] = (
    *EVERYWHERE[:3],
    *(
        case
        for case in (*EVERYWHERE, *HISTORY)
        if case[0] in ("aborted", "quotes continue", "wrapped", "plain paste", "history", "completion")
    ),
    ("with status", ("cd /usr\r", "false\r", "sh -c 'exit 7'\r", "true\r"), ("cd /usr", "false", "sh -c 'exit 7'", "true")),
    ("password", (f"{READ_SECRET}\r", f"{SECRET}\r", "echo after\r"), (READ_SECRET, "echo after")),
)

SCENARIOS: tuple[Scenario, ...] = (
    *in_shell(BASH, EVERYWHERE, HISTORY, EMACS, EMACS_HISTORY),
    *in_shell(ZSH, EVERYWHERE, HISTORY, EMACS, EMACS_HISTORY),
    *in_shell(FISH, EVERYWHERE, HISTORY, EMACS),
    *in_shell(DASH, EVERYWHERE),
    *in_shell(ASH, EVERYWHERE, HISTORY),
    *(
        Scenario(
            f"{shell[0]}-longer-than-the-screen", shell, (f"echo {'x' * 2100}\r",), (f"echo {'x' * 2100}",), confidence="input"
        )
        for shell in (BASH, ZSH)
    ),
    *PROMPTS,
    *NESTED,
    *PROGRAMS,
    *DATABASES,
    *LOGINS,
    *CONTAINERS,
    *SECRETS,
    *TYPED_AHEAD,
    *with_marks("bash", *MARKED, *EMACS, *EMACS_HISTORY),
    *with_marks("zsh", *MARKED),
    *with_marks("fish", *MARKED),
)
