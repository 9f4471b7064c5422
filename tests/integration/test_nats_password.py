"""Every service at a NATS server that wants a user and a password."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.processes import Service
from tests.integration.servers import NatsServer

PASSWORD = '7 letters: "quoted" & 100%'


class GuardedNats(NatsServer):
    """Lets `vsay` in."""

    def _arguments(self) -> list[str]:
        return [*super()._arguments(), "--user", "vsay", "--pass", PASSWORD]


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[NatsServer]:
    with GuardedNats(tmp_path / "nats") as server:
        yield server


@pytest.mark.parametrize("name", ["session_api", "ssh_worker", "audit"])
async def test_a_service_starts_with_the_password(guarded: NatsServer, tmp_path: Path, name: str) -> None:
    settings = {
        "VSAY_NATS_URL": guarded.url,
        "VSAY_NATS_USER": "vsay",
        "VSAY_NATS_PASSWORD": PASSWORD,
        "VSAY_STREAM_BYTES_MAX": "1000000000",
        "VSAY_DRAIN_SECONDS": "0",
    }
    service = Service(tmp_path / name, name, settings)
    try:
        await asyncio.to_thread(service.start)
        assert service.exit_status is None
    finally:
        await asyncio.to_thread(service.stop)
    assert "Authorization Violation" not in service.log
