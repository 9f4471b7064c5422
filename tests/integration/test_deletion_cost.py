"""The deletion cost of a worker's pod, written over HTTPS to a server that stands for the Kubernetes API server."""

import asyncio
import json
import ssl
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import pytest
import trustme

from services.ssh_worker import deletion_cost
from services.ssh_worker.deletion_cost import ApiServerError, Pod, kept
from tests.integration.installation import installation
from tests.integration.openssh import needs_openssh
from tests.integration.processes import Service

WAIT_SECONDS_MAX = 60.0


class ApiServer:
    """Takes PATCH on pods with `token` and keeps their annotations; anything else is refused as Kubernetes refuses it."""

    def __init__(self, directory: Path) -> None:
        self.token = "first"
        self.annotations: dict[str, str] = {}
        self.writes: list[str] = []
        self.refuses = False
        authority = trustme.CA()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_PATCH(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer._patch(self, body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.account = directory / "account"
        self.account.mkdir()
        authority.cert_pem.write_to_path(self.account / "ca.crt")
        (self.account / "namespace").write_text("vsay\n")
        (self.account / "token").write_text(self.token)

    def pod(self, name: str) -> Pod:
        return Pod(name, f"https://127.0.0.1:{self._server.server_port}", self.account)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _patch(self, request: BaseHTTPRequestHandler, body: Any) -> None:
        status = 200
        if request.headers["Authorization"] != f"Bearer {self.token}":
            status = 401
        elif request.headers["Content-Type"] != "application/merge-patch+json":
            status = 415
        elif self.refuses or not request.path.startswith("/api/v1/namespaces/vsay/pods/"):
            status = 403
        else:
            self.annotations |= body["metadata"]["annotations"]
            self.writes.append(request.path.rpartition("/")[2])
        payload = json.dumps({"kind": "Status", "code": status}).encode()
        request.send_response(status)
        request.send_header("Content-Length", str(len(payload)))
        request.end_headers()
        request.wfile.write(payload)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ApiServer]:
    with ApiServer(tmp_path) as running:
        yield running


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOOK_SECONDS", "WRITE_SECONDS_MIN", "RETRY_SECONDS"):
        monkeypatch.setattr(deletion_cost, name, 0.01)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        while not condition():
            await asyncio.sleep(0.01)


def cost(server: ApiServer) -> str | None:
    return server.annotations.get("controller.kubernetes.io/pod-deletion-cost")


@pytest.mark.usefixtures("quick")
async def test_the_cost_follows_the_sessions(server: ApiServer) -> None:
    sessions = 0
    async with kept(server.pod("ssh-worker-1"), lambda: sessions):
        await until(lambda: cost(server) == "0")
        sessions = 5
        await until(lambda: cost(server) == "8")
        written = len(server.writes)
        sessions = 7
        await asyncio.to_thread(server.pod("other").write_cost, 8)  # several looks later
        assert server.writes[written:] == ["other"]
        sessions = 0
        await until(lambda: cost(server) == "0")
    assert set(server.writes) == {"ssh-worker-1", "other"}


@pytest.mark.usefixtures("quick")
async def test_a_refusal_disturbs_nothing_and_is_tried_again(server: ApiServer) -> None:
    server.refuses = True
    async with kept(server.pod("ssh-worker-1"), lambda: 3):
        with pytest.raises(ApiServerError, match="status 403"):
            await asyncio.to_thread(server.pod("ssh-worker-1").write_cost, 1)
        server.refuses = False
        await until(lambda: cost(server) == "4")


def test_the_token_is_read_anew(server: ApiServer) -> None:
    pod = server.pod("ssh-worker-1")
    pod.write_cost(1)
    server.token = "second"
    with pytest.raises(ApiServerError, match="status 401"):
        pod.write_cost(2)
    (server.account / "token").write_text("second")
    pod.write_cost(2)
    assert cost(server) == "2"


def test_a_server_of_another_authority_gets_no_token(server: ApiServer) -> None:
    trustme.CA().cert_pem.write_to_path(server.account / "ca.crt")
    with pytest.raises(ApiServerError, match="CERTIFICATE_VERIFY_FAILED"):
        server.pod("ssh-worker-1").write_cost(1)
    assert not server.writes


def test_no_server_and_no_account_are_errors_of_the_same_kind(server: ApiServer, tmp_path: Path) -> None:
    with pytest.raises(ApiServerError):
        Pod("ssh-worker-1", "https://127.0.0.1:1", server.account).write_cost(1)
    with pytest.raises(ApiServerError, match="FileNotFoundError"):
        Pod("ssh-worker-1", "https://127.0.0.1:1", tmp_path / "none").write_cost(1)


class WorkerInPod(Service):
    """`python -m services.ssh_worker` whose pod lies at `server`, and that writes without waiting."""

    def __init__(self, directory: Path, settings: Mapping[str, str], server: ApiServer) -> None:
        super().__init__(directory, "ssh_worker", {**settings, "VSAY_POD_NAME": "ssh-worker-1"})
        self._pod = server.pod("ssh-worker-1")

    def _command(self) -> list[str]:
        pod = self._pod
        program = (
            "import runpy; from pathlib import Path; from services.ssh_worker import deletion_cost;"
            f"deletion_cost.own_pod = lambda name, _: deletion_cost.Pod(name, {pod.server!r}, Path({str(pod.service_account)!r}));"
            "deletion_cost.LOOK_SECONDS = deletion_cost.WRITE_SECONDS_MIN = 0.05;"
            "runpy.run_module('services.ssh_worker', run_name='__main__', alter_sys=True)"
        )
        return [sys.executable, "-c", program]


@needs_openssh
async def test_a_worker_tells_of_its_sessions(server: ApiServer, tmp_path: Path) -> None:
    with installation(tmp_path / "installation") as parts:
        tokens = await parts.declare()
        with WorkerInPod(tmp_path / "worker", parts.settings, server):
            client = parts.client(parts.start("session_api"), tokens["usr_123"])
            await until(lambda: cost(server) == "0")
            ticket = await client.open("mch_456")
            async with client.terminal(ticket) as terminal:
                await terminal.type("echo mar''ker\n")
                await terminal.shows("marker")
                await until(lambda: cost(server) == "1")
                await terminal.type("exit\n")
                await terminal.until("disconnect")
            await until(lambda: cost(server) == "0")
    assert set(server.writes) == {"ssh-worker-1"}


async def test_without_a_pod_nothing_is_done() -> None:
    async with kept(None, lambda: 1):
        pass
