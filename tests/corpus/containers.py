"""Scenarios of shells in containers, entered from the login shell.

To record them, `INNER` is the directory of a root with busybox (`sh`, `ls` and so on as links to it), bash, and the terminals
xterm and xterm-256color; a Docker engine runs a container `inner` of it with the host name `inner`, from an image `inner`;
`DOCKER_HOST` as docker reads it.
"""

import os

from tests.corpus.scenarios import ASH, BASH, SECRET, UP, ZSH, Command, Scenario, Step, Until

ENVIRONMENT = {"INNER": os.environ.get("INNER", ""), "DOCKER_HOST": os.environ.get("DOCKER_HOST", "")}
CHROOT = "unshare --mount --pid --fork --uts chroot $INNER sh"
ON_A_TERMINAL_OF_ITS_OWN = f'script -qec "{CHROOT}" /dev/null'
NSPAWN = "systemd-nspawn -q --register=no --keep-unit -D $INNER sh"
INSIDE: tuple[str, ...] = (
    "echo inside\r",
    f"{UP}\r",
    "ls /usr/loc\t\r",
    'echo "a\r',
    'b"\r',
    "read -s x\r",
    f"{SECRET}\r",
    "exit\r",
)
ENTERED = ("echo inside", "echo inside", "ls /usr/local/", 'echo "a\nb"', "read -s x", "exit")


def inside(name: str, shell: tuple[str, ...], enter: str, prompt: str, reader: str, *needs: str) -> Scenario:
    """Into a container, there what a person does, out of it again. `reader`: what the log takes the shell in it for."""
    commands: tuple[Command, ...] = tuple((reader, text) if reader else text for text in ENTERED)
    steps: tuple[Step, ...] = (Until(f"{enter}\r", prompt), *INSIDE, "echo outside\r")
    return Scenario(
        name,
        shell,
        steps,
        (enter, *commands, "echo outside"),
        (SECRET,),
        texts=("inside", "bin", "outside"),
        environment=ENVIRONMENT,
        needs=needs,
    )


CONTAINERS = (
    inside("bash-docker-exec-ash", BASH, "docker exec -it inner sh", "# ", "docker", "docker"),
    inside("bash-docker-exec-bash", BASH, "docker exec -it inner bash", "# ", "", "docker"),
    inside("bash-docker-run", BASH, "docker run --rm -it --network none inner sh -l", "# ", "docker", "docker"),
    inside("zsh-docker-exec-bash", ZSH, "docker exec -it inner bash", "# ", "", "docker"),
    inside("ash-docker-exec-ash", ASH, "docker exec -it inner sh", "# ", "", "docker"),
    inside("bash-docker-exec-dumb-bash", BASH, "docker exec -e TERM=dumb -it inner bash", "# ", "docker", "docker"),
    inside("bash-chroot", BASH, CHROOT, "\n$ ", "", "unshare"),
    inside("bash-chroot-on-a-terminal-of-its-own", BASH, ON_A_TERMINAL_OF_ITS_OWN, "\n$ ", "", "script"),
    inside("bash-nspawn", BASH, NSPAWN, "# ", "systemd-nspawn", "systemd-nspawn"),
    Scenario(
        "bash-two-containers-deep",
        BASH,
        (
            Until("docker exec -it inner bash\r", "# "),
            "echo bash\r",
            Until("PS1='deeper> ' sh\r", "deeper> "),
            "echo ash\r",
            f"{UP}\r",
            "exit\r",
            "echo bash again\r",
            "exit\r",
            "echo outside\r",
        ),
        (
            "docker exec -it inner bash",
            "echo bash",
            "PS1='deeper> ' sh",
            ("sh", "echo ash"),
            ("sh", "echo ash"),
            ("sh", "exit"),
            "echo bash again",
            "exit",
            "echo outside",
        ),
        environment=ENVIRONMENT,
        needs=("docker",),
    ),
)
