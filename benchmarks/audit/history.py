"""A made-up history of an organization: sessions as their workers would have recorded them, with text that looks like text."""

import random
from collections.abc import Iterator
from datetime import datetime, timedelta

from contracts.events import (
    CommandEntered,
    CommandFinished,
    Confidence,
    EndReason,
    InputEchoed,
    OutputProduced,
    Person,
    Role,
    SessionClaimed,
    SessionEnded,
    SessionStarted,
    Target,
    TextShown,
    ViewerAttached,
)
from contracts.wire import Recorded
from tests.integration.stories import Story

ORG = "org_bench"
USERS = [Person(f"usr_{n:03}", f"User Number {n}", f"user{n}@example.com") for n in range(60)]
MACHINES = [Target(f"mch_{n:03}", f"machine-{n}", f"192.0.2.{n}") for n in range(120)]
COMMANDS_PER_SESSION = 14
COMMANDS = (
    *("ls -la /var/log", "systemctl status nginx", "tail -n 40 /var/log/syslog", "df -h", "ps aux | head -30", "git log --oneline"),
    *("cat /etc/nginx/nginx.conf", "docker ps", "kubectl get pods -A", "vim app.py", "grep -rn TODO src", "top -b -n 1", "uptime"),
    *("rm -rf /tmp/build", "sudo systemctl restart app", "curl -sI localhost", "psql -c 'select 1'", "cd /srv/app"),
)
TEXT = """
accepted active address agent api available bytes cache closed config connection container core daemon denied device disk
enabled error event failed file found group handler host image index info interface kernel level line load local log main
memory mode module mounted name network node not open order packet partition password path permission pid pod port process
queue ready request reset root running server service session signal size socket started state stopped success system table
target task thread time total unit update user value version volume waiting warning worker write zone
"""
WORDS = TEXT.split()


def sessions(seed: int, events: int, until: datetime, days: float) -> Iterator[list[Recorded]]:
    """Sessions of about so many events altogether, which began in the days before `until`, in the order in which they did."""
    randomness = random.Random(seed)
    count = max(events // (6 + COMMANDS_PER_SESSION * 8), 1)
    for number in range(count):
        at = until - timedelta(days=days * (1 - number / count), seconds=randomness.random() * 60)
        yield _session(randomness, f"sess_{seed}x{randomness.getrandbits(80):020x}", at, runs=number > count * 0.999)


def _session(randomness: random.Random, session_id: str, at: datetime, *, runs: bool) -> list[Recorded]:
    story = Story(session_id, org_id=ORG, at=at)
    user, machine = (
        USERS[int(randomness.paretovariate(1.2)) % len(USERS)],
        MACHINES[int(randomness.paretovariate(1)) % len(MACHINES)],
    )
    address = f"198.51.100.{randomness.randrange(255)}"
    story.record(SessionClaimed(user, machine, 120, 40, address, "vsay/1", at, f"worker-{randomness.randrange(4)}"))
    if randomness.random() < 0.03:
        story.later(seconds=5).record(SessionEnded(EndReason.CONNECT_FAILED, "no route to host"))
        return story.events
    connect_ms = int(randomness.gammavariate(3, 60))
    story.later(milliseconds=connect_ms).record(
        SessionStarted("deploy", "publickey", "SHA256:47DEQpj8HBSa+/TImW", "SSH-2.0-OpenSSH_9.9", connect_ms)
    )
    story.record(ViewerAttached("view_" + session_id[-12:], user, Role.DRIVER, address, "vsay/1"))
    output, typed = 0, 0
    for n in range(1, COMMANDS_PER_SESSION + 1):
        command = randomness.choice(COMMANDS)
        story.later(seconds=randomness.expovariate(1 / 20))
        for piece in (command, "\r"):
            typed += len(piece)
            story.record(InputEchoed(typed), piece.encode())
        output += len(command) + 2
        story.record(OutputProduced(output), f"{command}\r\n".encode())
        line_seq = len(story.events)
        story.record(CommandEntered(n, command, Confidence.SCREEN, line_seq, line_seq, cwd="/home/deploy"))
        shown = _text(randomness)
        for part in (shown[: len(shown) // 2], shown[len(shown) // 2 :] + "\x1b[32mdeploy@host\x1b[0m:~$ "):
            data = part.replace("\n", "\r\n").encode()
            output += len(data)
            story.later(milliseconds=30).record(OutputProduced(output), data)
        end_seq, exit_status = len(story.events), int(randomness.random() < 0.08)
        story.record(TextShown(n, shown, line_seq, end_seq, exit_status=exit_status))
        story.record(CommandFinished(n, end_seq, exit_status))
    if not runs:
        totals = {"output_bytes_total": output, "input_bytes_total": typed, "commands_total": COMMANDS_PER_SESSION}
        reason = randomness.choices((EndReason.EXITED, EndReason.IDLE_TIMEOUT, EndReason.WORKER_LOST), (90, 9, 1))[0]
        story.later(seconds=2).record(SessionEnded(reason, **totals))
    return story.events


def _text(randomness: random.Random) -> str:
    lines = []
    for _ in range(randomness.randrange(1, 30)):
        words = " ".join(randomness.choices(WORDS, k=randomness.randrange(4, 12)))
        moment = f"Nov {randomness.randrange(1, 30):2} 12:{randomness.randrange(60):02}:{randomness.randrange(60):02}"
        lines.append(f"{moment} host {words}[{randomness.randrange(30000)}]: {randomness.getrandbits(40):x}")
    return "\n".join(lines) + "\n"
