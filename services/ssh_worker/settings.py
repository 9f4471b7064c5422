"""Settings of the worker."""

from typing import Annotated

from msgspec import Meta

from contracts.ids import NAME_PATTERN
from contracts.streams import ACK_WAIT_SECONDS
from services.runtime.settings import HealthPort, MaskRulesFile, SecretsDir, SigningKeyName, StreamSettings, WaitForPlace


class WorkerSettings(StreamSettings, frozen=True, kw_only=True):
    """`ssh-worker`."""

    worker_name: Annotated[
        str,
        Meta(description="Name of this worker in the record; empty: host name and process id.", pattern=r"^[A-Za-z0-9._-]{0,100}$"),
    ] = ""
    worker_places: Annotated[
        int, Meta(description="How many sessions this worker carries at once, in all its processes.", ge=1, le=10_000)
    ] = 100
    worker_processes: Annotated[
        int, Meta(description="Processes of this worker, one for each core that it may use; they share its places.", ge=1, le=64)
    ] = 1
    secrets_dir: SecretsDir = ".vsay/secrets"
    signing_key: SigningKeyName = ""
    mask_rules_file: MaskRulesFile = ""
    connect_timeout_seconds: Annotated[float, Meta(description="Time for TCP and the SSH handshake.", gt=0, le=300)] = 10.0
    login_timeout_seconds: Annotated[float, Meta(description="Time for the login after the handshake.", gt=0, le=300)] = 20.0
    keepalive_seconds: Annotated[
        float, Meta(description="Between SSH keepalives; three unanswered ones end the session.", gt=0)
    ] = 15.0
    terminal_type: Annotated[str, Meta(description="TERM of the remote terminal.", pattern=NAME_PATTERN)] = "xterm-256color"
    client_gone_seconds: Annotated[
        float,
        Meta(description="A session that nobody watches and that has been silent this long ends with client_gone; 0: never.", ge=0),
    ] = 3600.0
    idle_timeout_seconds: Annotated[
        float,
        Meta(description="A session in which nobody types for this long ends with idle_timeout; 0: never. Per machine too.", ge=0),
    ] = 4 * 3600.0
    max_duration_seconds: Annotated[
        float, Meta(description="A session that runs this long ends with max_duration; 0: never. Per machine too.", ge=0)
    ] = 24 * 3600.0
    warn_seconds: Annotated[
        float,
        Meta(description="Viewers are warned this long before one of these two limits ends their session; 0: not at all.", ge=0),
    ] = 60.0
    wait_for_place_seconds: WaitForPlace = 300.0
    lease_seconds: Annotated[
        float,
        Meta(
            description="A session whose worker was not heard of for this long is given to another one, which ends it as "
            "worker_lost. The same for all workers.",
            ge=3,
            le=300,
        ),
    ] = ACK_WAIT_SECONDS
    stall_seconds: Annotated[
        float,
        Meta(
            description="A session whose events or lease could not be stored for this long ends itself; at most 2/3 of the lease.",
            gt=0,
            lt=ACK_WAIT_SECONDS,
        ),
    ] = ACK_WAIT_SECONDS * 2 / 3
    drain_seconds: Annotated[
        float, Meta(description="How long sessions may go on after SIGTERM before they end as worker_drained.", ge=0)
    ] = 30.0
    health_port: HealthPort = 0
    pod_name: Annotated[
        str,
        Meta(description="Name of the worker's own pod on Kubernetes, whose deletion cost follows its sessions; empty: none."),
    ] = ""
