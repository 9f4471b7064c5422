"""Health of a process that serves nothing else."""

import asyncio
import json
import os
import sys

from prometheus_client import Counter
from prometheus_client.parser import text_string_to_metric_families

from services.runtime import health, metrics
from tests.integration.servers import free_port


async def ask(port: int, request: bytes) -> tuple[int, bytes]:
    """Status and body of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


async def test_ready_only_while_every_check_passes() -> None:
    port, broken = free_port(), False

    async def sound() -> None:
        pass

    async def doubtful() -> None:
        if broken:
            raise OSError("the cable is out")

    async with health.serve(port, {"sound": sound, "doubtful": doubtful}):
        status, body = await ask(port, b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (status, json.loads(body)) == (200, {"status": "ok", "checks": {"sound": "ok", "doubtful": "ok"}})
        broken = True
        status, body = await ask(port, b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert status == 503
        assert json.loads(body)["checks"]["sound"] == "ok"
        assert "OSError" in json.loads(body)["checks"]["doubtful"]
        status, body = await ask(port, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (status, json.loads(body)) == (200, {"status": "ok"})
        assert (await ask(port, b"GET /other HTTP/1.1\r\n\r\n"))[0] == 404
        assert (await ask(port, b"GET /metrics HTTP/1.1\r\n\r\n"))[0] == 404


async def test_metrics_of_the_process_and_its_own() -> None:
    port, registry = free_port(), metrics.registry()
    counter = Counter("vsay_tests", "Counts.", registry=registry)
    async with health.serve(port, {}, metrics.of(registry)):
        counter.inc(3)
        status, body = await ask(port, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    families = {family.name: family for family in text_string_to_metric_families(body.decode())}
    assert status == 200
    assert families["vsay_tests"].samples[0].value == 3
    assert families["process_resident_memory_bytes"].samples[0].value > 0


async def test_a_broken_request_harms_nothing() -> None:
    port = free_port()
    async with health.serve(port, {}):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"x" * 100_000)
        writer.write_eof()
        await asyncio.gather(reader.read(), return_exceptions=True)
        writer.close()
        assert (await ask(port, b"GET /healthz HTTP/1.1\r\n\r\n"))[0] == 200


async def test_port_0_serves_nothing() -> None:
    async with health.serve(0, {}):
        pass


async def test_a_container_asks_by_itself() -> None:
    port, broken = free_port(), False

    async def doubtful() -> None:
        if broken:
            raise OSError("the cable is out")

    async def check(*arguments: str) -> tuple[int | None, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "services.runtime.health_check",
            "VSAY_HEALTH_PORT",
            *arguments,
            env=os.environ | {"VSAY_HEALTH_PORT": str(port)},
            stderr=asyncio.subprocess.PIPE,
        )
        _, said = await process.communicate()
        return process.returncode, said.decode()

    async with health.serve(port, {"doubtful": doubtful}):
        assert await check() == (0, "")
        assert await check("/readyz") == (0, "")
        broken = True
        assert await check() == (0, "")
        status, said = await check("/readyz")
        assert status == 1
        assert "/readyz answers 503" in said
        assert "the cable is out" in said
    status, said = await check()
    assert status == 1
    assert f"port {port} does not answer" in said
