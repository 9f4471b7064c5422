"""Settings of the API."""

from typing import Annotated

from msgspec import Meta

from services.runtime.settings import ClickHouseSettings, HealthPort, WaitForPlace


class ApiSettings(ClickHouseSettings, frozen=True, kw_only=True):
    """`session-api`."""

    api_host: Annotated[str, Meta(description="Address that the API listens on.")] = "127.0.0.1"
    api_port: Annotated[int, Meta(description="Port that the API listens on; 0: any free one.", ge=0, le=65535)] = 8080
    public_url: Annotated[
        str,
        Meta(
            description="Where clients reach the API, as `https://host`, for `websocket_url`. Empty: as each request says.",
            pattern=r"^(https?://[^\s]+)?$",
        ),
    ] = ""
    trusted_proxies: Annotated[
        str,
        Meta(description="Proxies whose X-Forwarded-* headers count: addresses, separated by commas."),
    ] = ""
    ticket_seconds: Annotated[float, Meta(description="How long a WebSocket ticket admits.", gt=0, le=24 * 3600)] = 3600.0
    wait_for_place_seconds: WaitForPlace = 300.0
    sockets_per_user_max: Annotated[int, Meta(description="WebSockets of one user at one replica.", ge=1)] = 200
    health_port: HealthPort = 0
