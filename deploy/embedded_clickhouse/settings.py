"""Settings of the embedded ClickHouse engine."""

from typing import Annotated

from msgspec import Meta, Struct


class EngineSettings(Struct, frozen=True, kw_only=True):
    """`clickhouse` of the single-machine stack."""

    clickhouse_host: Annotated[str, Meta(description="Address that the embedded ClickHouse engine listens on.")] = "127.0.0.1"
    clickhouse_port: Annotated[int, Meta(description="Its port; 0: any free one.", ge=0, le=65535)] = 8123
    clickhouse_data: Annotated[str, Meta(description="Directory of the embedded ClickHouse engine's data.")] = ".vsay/clickhouse"
    clickhouse_config: Annotated[
        str, Meta(description="Configuration file of the embedded ClickHouse engine, in ClickHouse's XML; empty: none.")
    ] = ""
    clickhouse_user: Annotated[str, Meta(description="ClickHouse user.")] = "default"
    clickhouse_password: Annotated[str, Meta(description="Password of the ClickHouse user.")] = ""
    clickhouse_analyst_password: Annotated[
        str, Meta(description="Password of the embedded engine's read-only user `analyst`; empty: there is no such user.")
    ] = ""
    log_level: Annotated[str, Meta(description="debug, info, warning or error.", pattern="^(debug|info|warning|error)$")] = "info"
