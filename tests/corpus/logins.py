"""Scenarios of becoming somebody else: sudo, passwd, and ssh to another machine.

To record them, root needs a throwaway system user `visitor` with the password `SECRET` and a home directory, who may do all
things by sudo (`visitor ALL=(ALL) ALL` and `Defaults:visitor lecture=never, timestamp_timeout=0`), and an sshd on
127.0.0.1:2022 that lets this user in by password. `bash-passwd` changes the password.
"""

from tests.corpus.scenarios import BASH, SECRET, UP, Scenario, Slowly, Until

VISITOR = ("setpriv", "--reuid=visitor", "--regid=visitor", "--clear-groups", *BASH)
NEW_SECRET = "9-lantern-orbit-staple"
SUDO_PROMPT, SSH_PROMPT = "[sudo] password for visitor: ", "visitor@127.0.0.1's password: "

SSH_CONFIG = {
    "config": """\
Host inner
    HostName 127.0.0.1
    Port 2022
    User visitor
    PubkeyAuthentication no
    UserKnownHostsFile known_hosts
"""
}
TRUST = "ssh -F config inner"
SSH = "ssh -F config -o StrictHostKeyChecking=accept-new inner"

LOGINS = (
    Scenario(
        "bash-sudo",
        VISITOR,
        (Until("sudo id -un\r", SUDO_PROMPT), Until(f"{SECRET}\r", "root\r\n"), "echo after\r"),
        ("sudo id -un", "echo after"),
        (SECRET,),
        texts=("root",),
        needs=("sudo",),
    ),
    Scenario(
        "bash-sudo-wrong-and-corrected",
        VISITOR,
        (
            Until("sudo id -un\r", SUDO_PROMPT),
            Until("wrong-guess\r", "try again"),
            Slowly(f"{SECRET}x\x7f"),
            Until("\r", "root\r\n"),
            "echo after\r",
        ),
        ("sudo id -un", "echo after"),
        (SECRET, SECRET[:5], "wrong-guess"),
        texts=("Sorry, try again.",),
        needs=("sudo",),
    ),
    Scenario(
        "bash-sudo-aborted",
        VISITOR,
        (Until("sudo id -un\r", SUDO_PROMPT), f"{SECRET}\x03", "echo after\r"),
        ("sudo id -un", "echo after"),
        (SECRET,),
        needs=("sudo",),
    ),
    Scenario(
        "bash-sudo-i",
        VISITOR,
        (
            Until("sudo -i\r", SUDO_PROMPT),
            Until(f"{SECRET}\r", "# "),
            "echo inside\r",
            f"{UP}\r",
            'echo "a\r',
            'b"\r',
            "exit\r",
            "echo outside\r",
        ),
        ("sudo -i", "echo inside", "echo inside", 'echo "a\nb"', "exit", "echo outside"),
        (SECRET,),
        texts=("inside", "outside"),
        needs=("sudo",),
    ),
    Scenario(
        "bash-ssh",
        BASH,
        (
            Until(f"{SSH}\r", SSH_PROMPT),
            Until(f"{SECRET}\r", "$ "),
            "echo inside\r",
            f"{UP}\r",
            "ls /usr/loc\tbin\r",
            "exit\r",
            "echo outside\r",
        ),
        (SSH, "echo inside", "echo inside", "ls /usr/local/bin", "exit", "echo outside"),
        (SECRET,),
        texts=("inside", "Connection to 127.0.0.1 closed.", "outside"),
        needs=("ssh",),
        files=SSH_CONFIG,
    ),
    Scenario(
        "bash-ssh-to-an-unknown-host",
        BASH,
        (
            Until(f"{TRUST}\r", "(yes/no/[fingerprint])? "),
            Until("yes\r", SSH_PROMPT),
            Until("wrong-guess\r", SSH_PROMPT),
            Until(f"{SECRET}\r", "$ "),
            "echo inside\r",
            "exit\r",
            "echo outside\r",
        ),
        (TRUST, ("ssh", "yes"), "echo inside", "exit", "echo outside"),
        (SECRET, "wrong-guess"),
        texts=("Permission denied, please try again.",),
        needs=("ssh",),
        files=SSH_CONFIG,
    ),
    Scenario(
        "bash-sudo-in-ssh",
        BASH,
        (
            Until(f"{SSH}\r", SSH_PROMPT),
            Until(f"{SECRET}\r", "$ "),
            Until("sudo -i\r", SUDO_PROMPT),
            Until(f"{SECRET}\r", "# "),
            "echo root\r",
            "exit\r",
            "echo visitor\r",
            "exit\r",
            "echo outside\r",
        ),
        (SSH, "sudo -i", "echo root", "exit", "echo visitor", "exit", "echo outside"),
        (SECRET,),
        needs=("ssh", "sudo"),
        files=SSH_CONFIG,
    ),
    Scenario(
        "bash-passwd",
        VISITOR,
        (
            Until("passwd\r", "Current password: "),
            Until(f"{SECRET}\r", "New password: "),
            Until(f"{NEW_SECRET}\r", "Retype new password: "),
            Until(f"{NEW_SECRET}\r", "successfully"),
            "echo after\r",
        ),
        ("passwd", "echo after"),
        (SECRET, NEW_SECRET),
        texts=("password updated successfully",),
        needs=("passwd",),
    ),
    Scenario(
        "bash-passwd-mistyped",
        VISITOR,
        (
            Until("passwd\r", "Current password: "),
            Until("wrong-guess\r", "unchanged"),
            "echo after\r",
        ),
        ("passwd", "echo after"),
        ("wrong-guess",),
        texts=("password unchanged",),
        needs=("passwd",),
    ),
)
