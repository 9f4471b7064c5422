"""`vsay export` as a user runs it; its files are read by the engine."""

from datetime import timedelta
from pathlib import Path

from nats.js.api import StreamConfig

from contracts.streams import ACCESS
from services.audit.clickhouse import Store
from services.runtime import bus
from services.runtime.settings import StreamSettings
from tests.integration.servers import ClickHouse, NatsServer
from tests.integration.stories import NOON, Story
from tests.integration.test_cli import vsay


async def test_every_view_becomes_a_file_a_day(store: Store, clickhouse: ClickHouse, nats_url: str) -> None:
    first = Story("sess_1").claimed().started().output(bytes(range(256))).command("ls", "a").later(days=2).output().ended()
    second = Story("sess_2", at=NOON + timedelta(days=1), org_id="org_other").claimed().command("é 💾", "b").ended()
    for _ in range(2):
        await store.insert_events(first.events + second.events)
    out = clickhouse.files
    where = {"clickhouse_url": clickhouse.url, "nats_url": nats_url}
    week = ("--from", "2024-01-01", "--to", "2024-01-08", "--output", str(out))
    status, printed, err = await vsay("export", *week, **where)
    assert (status, err) == (0, "")
    rows = {line.rpartition("/")[2].split()[0]: int(line.split()[1]) for line in printed.splitlines()}
    assert rows == {
        "sessions-2024-01-01.parquet": 1,
        "sessions-2024-01-02.parquet": 1,
        "commands-2024-01-01.parquet": 1,
        "commands-2024-01-02.parquet": 1,
        "logs-2024-01-01.parquet": 2,
        "logs-2024-01-02.parquet": 2,
        "events-2024-01-01.parquet": 5,
        "events-2024-01-02.parquet": 4,
        "events-2024-01-03.parquet": 2,
    }
    assert sorted(path.name for path in out.iterdir()) == sorted(rows), "and nothing beside them"
    events = f"SELECT seq, hex(data), hex(chain) FROM file('{out}/events-*.parquet') WHERE session_id = 'sess_1' ORDER BY seq"
    assert clickhouse.query(events) == "".join(f"{e.seq}\t{e.data.hex().upper()}\t{e.chain.hex().upper()}\n" for e in first.events)
    assert clickhouse.query(f"SELECT text, user_name FROM file('{out}/commands-2024-01-02.parquet')") == "é 💾\tJohn Doe\n"

    status, printed, err = await vsay("export", "commands", "--org", "org_other", *week, **where)
    assert (status, err, len(printed.splitlines())) == (0, "", 1)
    await store.insert_events(Story("sess_3").claimed().command("late").events)
    status, printed, err = await vsay("export", "commands", *week, **where)
    assert clickhouse.query(f"SELECT count() FROM file('{out}/commands-2024-01-01.parquet')") == "2\n", "it is written anew"


async def test_what_cannot_be_exported_is_said(
    store: Store, clickhouse: ClickHouse, nats_server: NatsServer, tmp_path: Path
) -> None:
    where = {"clickhouse_url": clickhouse.url, "nats_url": nats_server.url}
    for arguments, text in (
        (("nothing", "--from", "2024-01-01"), "nothing cannot be exported"),
        (("sessions", "--from", "2024-01-02", "--to", "2024-01-02"), "--to must be after --from"),
    ):
        status, printed, err = await vsay("export", *arguments, "--output", str(tmp_path), **where)
        assert (status, printed) == (1, "")
        assert text in err
    clickhouse.stop()
    status, printed, err = await vsay("export", "--from", "2024-01-01", "--output", str(tmp_path), **where)
    assert status == 1
    assert "VSAY_CLICKHOUSE_URL" in err
    assert err.count("\n") == 1


async def test_nothing_is_read_when_that_cannot_be_recorded(
    store: Store, clickhouse: ClickHouse, nats_server: NatsServer, tmp_path: Path
) -> None:
    await store.insert_events(Story("sess_1").claimed().command("ls", "a").ended().events)
    nats_url = nats_server.url
    out = tmp_path / "files"
    arguments = ("export", "--from", "2024-01-01", "--to", "2024-01-08", "--output", str(out))
    client = await bus.connect(StreamSettings(nats_url=nats_url), "test")
    await bus.declare(client.jetstream(), StreamSettings(nats_url=nats_url, stream_bytes_max=1_000_000))
    await client.jetstream().update_stream(StreamConfig(name=ACCESS.name, subjects=["elsewhere"]))
    status, printed, err = await vsay(*arguments, clickhouse_url=clickhouse.url, nats_url=nats_url)
    assert (status, printed, out.exists()) == (1, "", False), "the stream does not take the entry"
    assert "nothing is read" in err
    await client.close()
    nats_server.stop()
    status, printed, err = await vsay(*arguments, clickhouse_url=clickhouse.url, nats_url=nats_url)
    assert (status, printed, out.exists()) == (1, "", False), "there is no NATS"
    assert "VSAY_NATS_URL" in err
