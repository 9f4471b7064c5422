"""Settings of the single-machine stack."""

from typing import Annotated

from msgspec import Meta, Struct

from services.runtime.stack_file import HOME_DEFAULT

HOST = "127.0.0.1"


class StackSettings(Struct, frozen=True, kw_only=True):
    """`vsay up`; whatever else is in the environment reaches the services."""

    home: Annotated[str, Meta(description="Directory of everything that the single-machine stack keeps.", min_length=1)] = (
        HOME_DEFAULT
    )
    api_host: Annotated[str, Meta(description="Address that the API listens on.", min_length=1)] = HOST
    api_port: Annotated[int, Meta(description="Port that the API listens on; 0: any free one.", ge=0, le=65535)] = 8080
    nats_port: Annotated[int, Meta(description="Port of the stack's nats-server; 0: any free one.", ge=0, le=65535)] = 4222
    clickhouse_port: Annotated[
        int, Meta(description="Port of the embedded ClickHouse engine; 0: any free one.", ge=0, le=65535)
    ] = 8123
    demo_port: Annotated[int, Meta(description="Port of the demo machine; 0: any free one.", ge=0, le=65535)] = 0
    drain_seconds: Annotated[
        float, Meta(description="How long sessions may go on after SIGTERM before they end as worker_drained.", ge=0)
    ] = 2.0
