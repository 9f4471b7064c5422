"""Tells Kubernetes which worker to stop first: the deletion cost of the worker's own pod follows its sessions.

A ReplicaSet that shrinks removes the pods with the lowest `controller.kubernetes.io/pod-deletion-cost` first, so that empty
workers go before busy ones. Kubernetes asks that the annotation be written rarely; it moves here in powers of two, and at
most once a minute.
"""

import asyncio
import json
import logging
import ssl
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from msgspec import Struct

log = logging.getLogger(__name__)

ANNOTATION: Final = "controller.kubernetes.io/pod-deletion-cost"
SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where Kubernetes mounts a pod's token, its namespace and the certificate of the API server's authority."""

LOOK_SECONDS: Final = 5.0
WRITE_SECONDS_MIN: Final = 60.0
"""Between two writes."""

RETRY_SECONDS: Final = 300.0
"""After a write that failed: what a worker may not write, it will not be allowed to a moment later."""

ANSWER_SECONDS_MAX: Final = 10.0
ANSWER_BYTES_MAX: Final = 2000
"""Of an error's text, for the log."""


class ApiServerError(Exception):
    """The API server did not answer, or refused."""


class Pod(Struct, frozen=True):
    """The worker's own pod, and how it reaches the API server. The token is read anew each time: it is replaced hourly."""

    name: str
    server: str
    service_account: Path = SERVICE_ACCOUNT

    def write_cost(self, cost: int) -> None:
        """Set the annotation. Blocks; raises `ApiServerError`."""
        try:
            namespace = (self.service_account / "namespace").read_text().strip()
            token = (self.service_account / "token").read_text().strip()
            trusted = ssl.create_default_context(cafile=self.service_account / "ca.crt")
            request = urllib.request.Request(  # noqa: S310  # the scheme is ours
                f"{self.server}/api/v1/namespaces/{namespace}/pods/{self.name}",
                method="PATCH",
                data=json.dumps({"metadata": {"annotations": {ANNOTATION: str(cost)}}}).encode(),
                headers={"Authorization": f"Bearer {token}", "Content-Type": "application/merge-patch+json"},
            )
            opener = urllib.request.build_opener(
                urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trusted)
            )  # the API server is reached directly, whatever proxy the environment names
            with opener.open(request, timeout=ANSWER_SECONDS_MAX):
                pass
        except urllib.error.HTTPError as error:
            with error:
                raise ApiServerError(f"status {error.code}: {error.read(ANSWER_BYTES_MAX)!r}") from error
        except OSError as error:
            raise ApiServerError(f"{type(error).__name__}: {error}") from error


def own_pod(name: str, environ: Mapping[str, str]) -> Pod | None:
    """The pod of this name, when `environ` is that of a container on Kubernetes; None without a name, and elsewhere."""
    host, port = environ.get("KUBERNETES_SERVICE_HOST", ""), environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not name or not host:
        return None
    return Pod(name, f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}")


def next_cost(cost: int | None, sessions: int) -> int:
    """What `cost` (None: not known) becomes: 0 without sessions, else a power of two of at least `sessions`.

    It falls only once it is four times too high, so that a worker that has now one session more and now one less writes nothing.
    """
    if sessions == 0:
        return 0
    if cost is not None and sessions <= cost < 4 * sessions:
        return cost
    return 1 << (sessions - 1).bit_length()


@asynccontextmanager
async def kept(pod: Pod | None, sessions: Callable[[], int]) -> AsyncIterator[None]:
    """While inside, the cost of `pod` follows `sessions`; nothing is done without a pod."""
    if pod is None:
        yield
        return
    keeping = asyncio.create_task(_keep(pod, sessions))
    try:
        yield
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


async def _keep(pod: Pod, sessions: Callable[[], int]) -> None:
    cost: int | None = None  # an earlier process of this pod may have left any
    while True:
        wanted = next_cost(cost, sessions())
        if wanted == cost:
            await asyncio.sleep(LOOK_SECONDS)
            continue
        try:
            await asyncio.to_thread(pod.write_cost, wanted)
        except ApiServerError as error:
            log.warning("the deletion cost of pod %s was not written: %s", pod.name, error)
            await asyncio.sleep(RETRY_SECONDS)
        else:
            cost = wanted
            await asyncio.sleep(WRITE_SECONDS_MIN)
