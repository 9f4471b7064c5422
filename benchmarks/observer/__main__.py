"""How much output a terminal's observer takes in a second, on one core: `./just bench observer`."""

import argparse
import time
from collections.abc import Iterator
from itertools import cycle, islice

from terminal import Observer
from terminal.masking import Masking

FRAME_BYTES = 32 * 1024
"""As the worker records a flood."""

FLOODS = {
    "plain": b"".join(
        b"%06d the quick brown fox jumps over the lazy dog, again and again\r\n" % number for number in range(20_000)
    ),
    "coloured": b"".join(
        b"\x1b[32m%06d\x1b[0m the \x1b[1;31mquick\x1b[0m brown fox jumps \x1b[38;5;208mover\x1b[0m the dog\r\n" % number
        for number in range(20_000)
    ),
    "cursor": b"".join(b"\x1b[%d;%dHmoved \x1b[K" % (number % 24 + 1, number % 60 + 1) for number in range(50_000)),
    "one line": b"\r" + b"#" * 79,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="just bench observer", description=__doc__)
    parser.add_argument("--megabytes", type=int, default=100)
    megabytes = parser.parse_args().megabytes
    for state in ("idle", "typed ahead"):
        for name, flood in FLOODS.items():
            print(f"{name:10} {state:12} {measured(flood, megabytes * 2**20, typed=state != 'idle'):8.0f} MB/s")
    print(f"masking of a command of 100 characters: {masking_us():.0f} µs")


def measured(flood: bytes, size: int, *, typed: bool) -> float:
    """MB a second of CPU of `Observer.shown`, with what settling at the end costs."""
    observer = Observer(120, 40)
    observer.shown(b"$ ", 1)
    if typed:
        observer.typed(b"never shown\r")
    began = time.process_time()
    for seq, frame in enumerate(islice(frames(flood), size // FRAME_BYTES), start=2):
        observer.shown(frame, seq)
    observer.settle()
    observer.finish()
    return size / 1e6 / (time.process_time() - began)


def frames(flood: bytes) -> Iterator[bytes]:
    whole = flood * (FRAME_BYTES // len(flood) + 2)
    return cycle([whole[start : start + FRAME_BYTES] for start in range(0, len(whole) - FRAME_BYTES + 1, FRAME_BYTES)])


def masking_us() -> float:
    mask = Masking()
    text = "docker run --rm -e MODE=production -v /srv/data:/data registry.example.com/team/image:1.2.3 serve --port"[:100]
    mask(text)
    began = time.process_time()
    for _ in range(1000):
        mask(text)
    return (time.process_time() - began) * 1000


if __name__ == "__main__":
    main()
