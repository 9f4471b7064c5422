"""Settings from the environment."""

import pytest

from services.runtime.settings import SettingsError, load, variables
from services.session_api.settings import ApiSettings
from services.ssh_worker.settings import WorkerSettings


def test_what_is_not_set_has_its_default() -> None:
    assert load(ApiSettings, {}).api_port == 8080


def test_numbers_are_read_from_text() -> None:
    settings = load(WorkerSettings, {"VSAY_WORKER_PLACES": "7", "VSAY_DRAIN_SECONDS": "1.5", "UNRELATED": "x"})
    assert (settings.worker_places, settings.drain_seconds) == (7, 1.5)


@pytest.mark.parametrize(
    ("name", "value"),
    [("VSAY_API_PORT", "many"), ("VSAY_API_PORT", "70000"), ("VSAY_LOG_LEVEL", "loud"), ("VSAY_PUBLIC_URL", "ftp://x")],
)
def test_a_wrong_value_is_refused_with_the_variable_and_without_the_value(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        load(ApiSettings, {name: value})
    assert str(refusal.value).startswith(f"{name}: ")
    assert value not in str(refusal.value)


@pytest.mark.parametrize("kind", [ApiSettings, WorkerSettings])
def test_every_variable_is_described(kind: type[ApiSettings | WorkerSettings]) -> None:
    assert all(variable.description for variable in variables(kind))
