"""The NATS configurations of the manifests, given to a real nats-server: one alone, and three as a cluster."""

import asyncio
import json
import re
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from nats.errors import Error as NatsError

from contracts import streams, subjects
from services.runtime import bus
from services.runtime.settings import StreamSettings, load
from tests.integration.servers import Server, free_port
from tests.kubernetes.rendered import environment, named

WAIT_SECONDS_MAX = 120.0
SECRETS = {"NATS_USER": "vsay", "NATS_PASSWORD": "1e3-is-text"}


class ManifestNats(Server):
    """One pod of the StatefulSet: its configuration and environment, with the ports and paths of a test instead of a pod's."""

    def __init__(self, directory: Path, overlay: str, index: int, replaced: dict[str, str], routes: list[int]) -> None:
        super().__init__(directory)
        self.name = f"nats-{index}"
        self.monitor = int(replaced["0.0.0.0:8222"].rpartition(":")[2])
        self.port = int(replaced["0.0.0.0:4222"].rpartition(":")[2])
        spec = named(overlay, "StatefulSet", "nats")["spec"]["template"]["spec"]
        [container] = spec["containers"]
        [config] = [each["configMap"]["name"] for each in spec["volumes"] if "configMap" in each]
        text = named(overlay, "ConfigMap", config)["data"]["nats.conf"]
        paths = {"/data": str(directory / "data"), "/var/run/nats": str(directory)}
        for old, new in (replaced | paths).items():
            text = text.replace(f'"{old}', f'"{new}')
        (directory / "nats.conf").write_text(text)
        values, _ = environment(overlay, container)
        given = SECRETS | {"POD_NAME": self.name}
        expanded = {name: re.sub(r"\$\((\w+)\)", lambda match: given[match[1]], value) for name, value in values.items()}
        for number, port in enumerate(routes):
            expanded = {
                name: value.replace(f"nats-{number}.nats-headless:6222", f"127.0.0.1:{port}") for name, value in expanded.items()
            }
        self.environment = given | expanded

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def _command(self) -> list[str]:
        return [str(Path(sys.executable).with_name("nats-server")), "--config", str(self.directory / "nats.conf")]

    def _environment(self) -> dict[str, str]:
        return super()._environment() | self.environment

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.monitor}/healthz?js-server-only=true", timeout=5):
                return True
        except OSError:
            return False

    def consumers(self) -> Any:
        """As KEDA's scaler asks for them: /jsz of account $G."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.monitor}/jsz?acc=$G&consumers=true&config=true", timeout=5) as answer:
            return json.load(answer)


def pod(directory: Path, overlay: str, index: int, ports: list[list[int]]) -> ManifestNats:
    listens = zip(("0.0.0.0:4222", "0.0.0.0:6222", "0.0.0.0:8222"), ports[index], strict=True)
    replaced = {old: f"127.0.0.1:{port}" for old, port in listens}
    return ManifestNats(directory / f"nats-{index}", overlay, index, replaced, [each[1] for each in ports])


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[list[ManifestNats]]:
    flat = [free_port() for _ in range(9)]
    ports = [flat[index * 3 : index * 3 + 3] for index in range(3)]
    servers = [pod(tmp_path, "production", index, ports) for index in range(3)]
    try:
        for server in servers:
            server.start()
        yield servers
    finally:
        for server in servers:
            server.stop(kill=True)


async def eventually(attempt: Callable[[], Any]) -> Any:
    """The result of `attempt` once it gives one that is true, whatever NATS said before."""
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        while True:
            try:
                if result := await attempt():
                    return result
            except (NatsError, OSError, TimeoutError):
                pass
            await asyncio.sleep(0.2)


def settings(overlay: str, *servers: ManifestNats) -> StreamSettings:
    """What the worker's container is given, with the addresses of these servers."""
    [container] = named(overlay, "Deployment", "ssh-worker")["spec"]["template"]["spec"]["containers"]
    values, _ = environment(overlay, container)
    given = {"VSAY_NATS_USER": SECRETS["NATS_USER"], "VSAY_NATS_PASSWORD": SECRETS["NATS_PASSWORD"]}
    return load(StreamSettings, values | given | {"VSAY_NATS_URL": ",".join(server.url for server in servers)})


async def test_one_server_takes_every_stream_and_nobody_without_the_password(tmp_path: Path) -> None:
    with pod(tmp_path, "dev", 0, [[free_port() for _ in range(3)]]) as server:
        client = await bus.connect(settings("dev", server), "test")
        try:
            await bus.declare(client.jetstream(), settings("dev", server))
            names = {info.config.name for info in await client.jetstream().streams_info()}
            assert names >= {stream.name for stream in streams.STREAMS}
        finally:
            await client.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            assert b'"auth_required":true' in await reader.readline()
            writer.write(b'CONNECT {"user": "vsay", "pass": "wrong"}\r\nPING\r\n')
            assert b"Authorization Violation" in await reader.readline()
        writer.close()
        await writer.wait_closed()


async def test_three_servers_hold_every_stream_three_times_and_go_on_without_one(cluster: list[ManifestNats]) -> None:
    configured = settings("production", *cluster)
    assert configured.stream_replicas == 3
    client = await eventually(lambda: bus.connect(configured, "test"))
    try:
        jetstream = client.jetstream()

        async def declared() -> bool:
            await bus.declare(jetstream, configured)
            return True

        await eventually(declared)
        infos = {info.config.name: info for info in await jetstream.streams_info()}
        assert infos.keys() >= {stream.name for stream in streams.STREAMS}
        assert {info.config.num_replicas for info in infos.values()} == {3}

        subject = subjects.event("sess_1", "claimed")
        await eventually(lambda: jetstream.publish(subject, b"before", stream=streams.SESSIONS.name))
        await eventually(lambda: jetstream.publish(subjects.OPEN_SESSION, b"waits", stream=streams.COMMANDS.name))
        info = await jetstream.consumer_info(streams.COMMANDS.name, streams.SSH_WORKERS.durable)
        assert info.cluster
        [leader] = [server for server in cluster if server.name == info.cluster.leader]
        await eventually(lambda: asyncio.to_thread(_waiting, leader))

        lost = (await jetstream.stream_info(streams.SESSIONS.name)).cluster
        assert lost
        [gone] = [server for server in cluster if server.name == lost.leader]
        await asyncio.to_thread(gone.stop, kill=True)
        ack = await eventually(lambda: jetstream.publish(subject, b"after", stream=streams.SESSIONS.name))
        assert ack.seq > 1
        message = await eventually(lambda: jetstream.get_msg(streams.SESSIONS.name, seq=1))
        assert message.data == b"before"
    finally:
        await client.close()


def _waiting(server: ManifestNats) -> bool:
    """Whether the server says, where KEDA asks, that one session waits."""
    [account] = server.consumers()["account_details"]
    [stream] = [each for each in account["stream_detail"] if each["name"] == streams.COMMANDS.name]
    [consumer] = [each for each in stream["consumer_detail"] if each["name"] == streams.SSH_WORKERS.durable]
    return bool(consumer["num_pending"] + consumer["num_ack_pending"] == 1)


@pytest.mark.parametrize("overlay", ["dev", "production"])
def test_the_server_finds_nothing_wrong_with_the_configuration(overlay: str, tmp_path: Path) -> None:
    flat = [free_port() for _ in range(9)]
    server = pod(tmp_path, overlay, 0, [flat[index * 3 : index * 3 + 3] for index in range(3)])
    run = subprocess.run([*server._command(), "-t"], env=server._environment(), capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
