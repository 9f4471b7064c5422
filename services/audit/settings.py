"""Settings of the audit service."""

from typing import Annotated

from msgspec import Meta

from services.runtime.settings import ClickHouseSettings, HealthPort, SecretsDir, SigningKeyName


class AuditSettings(ClickHouseSettings, frozen=True, kw_only=True):
    """`audit`."""

    batch_events_max: Annotated[int, Meta(description="Events in one insert into ClickHouse, at most.", ge=1, le=20_000)] = 10_000
    batch_seconds_max: Annotated[
        float, Meta(description="How long an event waits for its batch to fill, at most, when no reader waits for it.", gt=0, le=30)
    ] = 2.0
    resume_horizon_hours: Annotated[
        float, Meta(description="Events that ClickHouse has are dropped from stream SESSIONS when they are older than this.", gt=0)
    ] = 24.0
    anchor_seconds: Annotated[
        float, Meta(description="How often the chains of all sessions are anchored; 0: never.", ge=0, le=24 * 3600)
    ] = 60.0
    secrets_dir: SecretsDir = ".vsay/secrets"
    signing_key: SigningKeyName = ""
    health_port: HealthPort = 0
