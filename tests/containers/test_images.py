"""What the three images are, as the engine tells it and as they behave. `just test-containers` runs this."""

import json
import subprocess

import pytest

from tests.integration.containers import IN_CONTAINERS, image_name

pytestmark = pytest.mark.skipif(not IN_CONTAINERS, reason="needs a Docker engine and the images: `just test-containers`")

SERVICES = ("SESSION_API", "SSH_WORKER", "AUDIT")
LOCKED = ("--rm", "--read-only", "--network", "none", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")


def run(service: str, *arguments: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = ["docker", "run", *LOCKED, *options, image_name(service), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_names_its_user_its_program_and_its_health(service: str) -> None:
    done = subprocess.run(["docker", "image", "inspect", image_name(service)], check=True, capture_output=True)
    config = json.loads(done.stdout)[0]["Config"]
    assert config["User"] == "65532:65532"
    assert config["Entrypoint"] == ["python3", "-m", f"services.{service.lower()}"]
    assert config["Healthcheck"]["Test"][:4] == ["CMD", "python3", "-m", "services.runtime.health_check"]
    assert config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert not any(secret in entry for entry in config["Env"] for secret in ("PASSWORD=", "TOKEN=", "KEY="))


@pytest.mark.parametrize("service", SERVICES)
def test_a_wrong_setting_ends_it_with_the_variables_name(service: str) -> None:
    done = run(service, options=("--env", "VSAY_STREAM_REPLICAS=many"))
    assert done.returncode == 2
    assert "VSAY_STREAM_REPLICAS" in done.stderr


@pytest.mark.parametrize("service", SERVICES)
def test_its_code_is_whole_compiled_and_not_its_own(service: str) -> None:
    code = (
        "import os, pathlib, sys; app = pathlib.Path('/app'); files = [p for p in app.rglob('*') if p.is_file()];"
        "print(os.getuid(), sum(p.stat().st_uid != 0 or os.access(p, os.W_OK) for p in files),"
        "sum(1 for p in (app / 'services').rglob('*.py') if not list(p.parent.glob(f'__pycache__/{p.stem}.*.pyc'))))"
    )
    done = run(service, "-c", code, options=("--entrypoint", "python3"))
    assert done.stdout.split() == ["65532", "0", "0"], done.stderr


def test_the_program_vsay_is_in_the_image_of_the_api() -> None:
    done = run("SESSION_API", "-m", "services.cli", "token", "create", "--help", options=("--entrypoint", "python3"))
    assert done.returncode == 0
    assert "--user" in done.stdout
