"""What `audit` says of itself and what it takes meanwhile: health, metrics, memory."""

import asyncio
import json
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.integration.processes import Service

SAMPLE_SECONDS = 2.0
ANSWER_SECONDS = 10.0
STREAM = "SESSIONS"


class Watch:
    """Looks at every replica now and then, by phases that the caller names."""

    def __init__(self, replicas: Mapping[str, tuple[Service, int]]) -> None:
        """By name, each with its health port."""
        self.phase = "before"
        self.phases: dict[str, dict[str, Any]] = {}
        self._replicas = replicas

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            for name, (service, port) in self._replicas.items():
                await asyncio.to_thread(self._look, name, service, port)
            await asyncio.sleep(SAMPLE_SECONDS)

    def told(self) -> dict[str, Any]:
        """Of each phase: how often what was said, the greatest of each figure, the time."""
        return {
            name: {figure: value for figure, value in phase.items() if figure not in ("first", "last")}
            | {"readyz": dict(phase["readyz"]), "seconds": round(phase["last"] - phase["first"])}
            for name, phase in self.phases.items()
        }

    def _look(self, name: str, service: Service, port: int) -> None:
        now = time.monotonic()
        phase = self.phases.setdefault(
            self.phase, {"readyz": Counter(), "memory_mb_max": 0, "lag_max": 0, "failed_inserts_max": 0, "first": now, "last": now}
        )
        phase["last"] = now
        phase["readyz"][_readiness(port)] += 1
        phase["memory_mb_max"] = max(phase["memory_mb_max"], _resident_mb(service))
        for figure, value in _metrics(port).items():
            phase[figure] = max(phase[figure], value)


def _readiness(port: int) -> str:
    """Status, and what each check says, without figures."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=ANSWER_SECONDS) as answer:
            status, body = answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            status, body = error.code, error.read()
    except OSError as error:
        return f"no answer: {type(error).__name__}"
    checks = {
        part: " ".join(word for word in text.split() if not word.isdecimal())[:60]
        for part, text in json.loads(body)["checks"].items()
    }
    return f"{status} {json.dumps(checks)}"


def _metrics(port: int) -> dict[str, float]:
    wanted = {"vsay_audit_lag_messages": "lag_max", "vsay_audit_inserts_failed_total": "failed_inserts_max"}
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=ANSWER_SECONDS) as answer:
            text = answer.read().decode()
    except OSError:
        return {}
    samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    return {wanted[each.name]: each.value for each in samples if each.name in wanted and each.labels.get("stream") == STREAM}


def _resident_mb(service: Service) -> int:
    try:
        status = Path(f"/proc/{service.pid}/status").read_text()
    except (OSError, AssertionError):  # it is being started again
        return 0
    return int(status.partition("VmRSS:")[2].split()[0]) // 1000 if "VmRSS:" in status else 0
