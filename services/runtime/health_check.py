"""Asks the process in the same container how it is: `python -m services.runtime.health_check VARIABLE [/readyz]`.

`VARIABLE` names the environment variable that has the port. An image has no curl and no shell, so it asks by itself.
"""

import os
import sys
from http.client import HTTPConnection, HTTPException
from typing import Final

ANSWER_SECONDS: Final = 4.0

WRONG_USAGE: Final = 2


def main() -> None:
    """Exit status: 0 well, 1 not well and why on stderr, 2 wrong usage."""
    if len(sys.argv) not in (2, 3) or not os.environ.get(sys.argv[1], "").isdecimal():
        print(f"usage: {sys.argv[0]} VARIABLE_WITH_THE_PORT [PATH]", file=sys.stderr)
        raise SystemExit(WRONG_USAGE)
    if trouble := ask(int(os.environ[sys.argv[1]]), sys.argv[2] if len(sys.argv) == 3 else "/healthz"):
        raise SystemExit(trouble)


def ask(port: int, path: str) -> str:
    """What is wrong, in one line; empty: nothing."""
    connection = HTTPConnection("127.0.0.1", port, timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read(1000).decode(errors="replace")
    except (OSError, HTTPException) as error:
        return f"port {port} does not answer: {type(error).__name__}"
    finally:
        connection.close()
    return "" if answer.status == 200 else f"{path} answers {answer.status}: {body}"


if __name__ == "__main__":
    main()
