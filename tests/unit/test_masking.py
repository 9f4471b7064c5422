"""Secrets that were typed visibly do not stand in a command's text, and what is none does."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from terminal import CommandEntered, Observer
from terminal.masking import MASKED, Masking

HIDDEN = "hunter2-Sesame"
MASK = Masking()
GITHUB = "ghp_" + "a1B2c3D4e5" * 3 + "f6G7h8"
AWS = "AKIA" + "IOSFODNN7EXAMPLE"
SLACK = "xoxb-" + "123456789012-123456789012-abcdefGHIJKLmnopqrstUVWX"


@pytest.mark.parametrize(
    "command",
    [
        f"mysql --password {HIDDEN} -u root",
        f"mysql --password={HIDDEN}",
        f"mysql -u root -p{HIDDEN} db",
        f"mysql --password='{HIDDEN}' db",
        f"PGPASSWORD={HIDDEN} psql -h db",
        f'export DB_PASSWORD="{HIDDEN}"',
        f"API_KEY={HIDDEN} ./run",
        f"AWS_SECRET_ACCESS_KEY={HIDDEN} aws s3 ls",
        f"vault login -token {HIDDEN}",
        f"tool --api-key={HIDDEN} --verbose",
        f'curl -H "Authorization: Bearer {HIDDEN}" https://example.com',
        f"curl -H 'authorization: Basic {HIDDEN}' https://example.com",
        f"curl -H 'X-Api-Key: {HIDDEN}' https://example.com",
        f"curl -u john:{HIDDEN} https://example.com",
        f"git clone https://john:{HIDDEN}@example.com/x.git",
        f"sshpass -p {HIDDEN} ssh host",
        f"docker login -u john -p {HIDDEN} registry",
        f"redis-cli -a {HIDDEN} ping",
        f"openssl enc -pass pass:{HIDDEN}",
        f"echo {HIDDEN} | sudo -S id",
        f"""curl -d '{{"user": "john", "password": "{HIDDEN}"}}' https://example.com""",
        f"create user x identified by '{HIDDEN}'",
        f"htpasswd -b file john {HIDDEN}",
        f"curl 'https://example.com/?access_token={HIDDEN}'",
        f"cat <<END\n-----BEGIN OPENSSH PRIVATE KEY-----\n{HIDDEN}\n{HIDDEN}\n-----END OPENSSH PRIVATE KEY-----\nEND",
    ],
)
def test_a_secret_on_the_command_line_is_masked(command: str) -> None:
    masked = MASK(command)
    assert HIDDEN not in masked
    assert MASKED in masked
    assert masked.split()[0] == command.replace(HIDDEN, MASKED).split()[0]
    assert MASK(masked) == masked


@pytest.mark.parametrize(
    "token", [GITHUB, AWS, SLACK, "sk_live_" + "a1b2c3d4e5f6a1b2c3d4e5f6"], ids=["github", "aws", "slack", "stripe"]
)
def test_a_token_of_a_known_format_is_masked_anywhere(token: str) -> None:
    assert MASK(f"tool use {token} now") == f"tool use {MASKED} now"


@pytest.mark.parametrize(
    "command",
    [
        "ls -la",
        "passwd john",
        "cat password.txt | grep -v secret",
        "docker login --password-stdin registry",
        "vault login --token-file /run/token",
        "mysql -p",
        "mysql -u root -p db",
        'curl -H "Authorization: Bearer $TOKEN" https://example.com',
        "export PASSWORD=$(pass show db)",
        "ssh -p 2222 host",
        "git commit -m 'Remove the password from the log'",
        "https://example.com:8080/path@x",
        "echo done | sudo tee /etc/motd",
        "if [ $token == x ]; then",
    ],
)
def test_what_is_no_secret_stays(command: str) -> None:
    assert MASK(command) == command


def test_own_rules_add_to_those_or_replace_them() -> None:
    assert Masking([r"badge-\d+"])("enter badge-123 --token x") == f"enter {MASKED} --token {MASKED}"
    assert Masking([r"pin (?P<secret>\d+)"], with_rules=False)("pin 123 --token x") == f"pin {MASKED} --token x"


@settings(max_examples=50, deadline=None)
@given(
    text=st.lists(
        st.sampled_from(
            [
                "mysql ",
                "-p",
                "--token",
                " ",
                "=",
                "a-",
                "'",
                '"',
                ":",
                "://",
                "@",
                "echo ",
                "| ",
                "-----BEGIN PRIVATE KEY-----",
                "x" * 50,
            ]
        ),
        max_size=3000,
    ).map("".join)
)
def test_any_text_is_masked_in_little_time(text: str) -> None:
    MASK(text)


def test_a_private_key_that_is_typed_line_by_line_is_masked() -> None:
    observer = Observer(80, 24, MASK)
    key = ["-----BEGIN EC PRIVATE KEY-----", "MHcCAQEEIBlineone", "lineTWOlineTWO==", "-----END EC PRIVATE KEY-----", "after"]
    told = [*observer.shown(b"$ ", 1), *observer.typed(b"cat >key\r"), *observer.shown(b"cat >key\r\n", 2)]
    for line in key:
        told += [*observer.typed(f"{line}\r".encode()), *observer.shown(f"{line}\r\n".encode(), 3)]
    told += observer.finish()
    texts = [each.text for each in told if isinstance(each, CommandEntered)]
    assert texts == ["cat >key", f"-----BEGIN EC PRIVATE KEY-----{MASKED}", MASKED, MASKED, MASKED, "after"]


def test_an_answer_to_a_question_for_a_secret_is_masked_though_it_was_shown() -> None:
    observer = Observer(80, 24)
    told = [
        *observer.shown(b"New password: ", 1),
        *observer.typed(b"hunter2\r"),
        *observer.shown(b"hunter2\r\n", 2),
        *observer.finish(),
    ]
    [command] = [each for each in told if isinstance(each, CommandEntered)]
    assert (command.text, command.masked) == (MASKED, True)
