"""Search over the API: who finds what, where, a page at a time."""

import asyncio

import pytest

from contracts.events import TextShown
from tests.integration.reader import OLGA, Reader, hits
from tests.integration.stories import DB, JOHN, WEB, Story

pytestmark = pytest.mark.timeout(300)


async def test_search_over_sessions(reader: Reader) -> None:
    john = (
        Story("sess_john").claimed(JOHN, WEB).started().command("rm -rf /var/tmp/%x_", "x" * 500 + "Löschen: ÄÖ done" + "y" * 500)
    )
    olga = Story("sess_olga").later(days=1).claimed(OLGA, DB).started().command("RM -RF /home", "removed 'C:\\dir'")
    foreign = Story("sess_foreign", org_id="org_other").claimed().started().command("rm -rf /", "all gone")
    await reader.tell(john, olga, foreign)
    page = await reader.data("/v1/search", "usr_admin", q="löschen: ÄÖ DONE".replace("ö", "ö", 1))
    assert page == {
        "hits": [
            {
                "session_id": "sess_john",
                "timestamp": "2024-01-01T12:00:00Z",
                "seq": 4,
                "type": "output",
                "user": {"id": "usr_123", "name": "John Doe"},
                "machine": {"id": "mch_web", "name": "Web"},
                "before": "x" * 200,
                "match": "Löschen: ÄÖ done",
                "after": "y" * 200,
            }
        ],
        "next_cursor": None,
    }
    assert await hits(reader, "rm -rf") == [("sess_olga", 3), ("sess_john", 3)], "newest first, of this organization"
    assert await hits(reader, "rm -rf", "usr_123") == [("sess_john", 3)], "an operator's own"
    assert await hits(reader, "rm -rf", "usr_123", user_id="usr_other") == []
    assert await hits(reader, "rm -rf", "usr_foreign") == [("sess_foreign", 3)]
    assert await hits(reader, "rm -rf", user_id="usr_other") == [("sess_olga", 3)]
    assert await hits(reader, "rm -rf", machine_id="mch_web") == [("sess_john", 3)]
    assert await hits(reader, "rm -rf", machine_id="mch_none") == []
    assert await hits(reader, "rm", type="output") == []
    assert await hits(reader, "removed", type="output") == [("sess_olga", 4)]
    assert await hits(reader, "rm -rf", **{"from": "2024-01-02"}) == [("sess_olga", 3)]
    assert await hits(reader, "rm -rf", to="2024-01-01") == [("sess_john", 3)]
    for text, found in {"%": [3], "_": [3], "%x_": [3], "tmp/_x": [], "'c:\\DIR'": [4], "a%y": [], "' OR 1=1 --": []}.items():
        assert [seq for _, seq in await hits(reader, text)] == found, text


async def test_search_reads_only_where_the_text_may_be(reader: Reader, id_: str) -> None:
    await reader.tell(Story(id_).claimed().started().command("true", "fine"))
    plan = await asyncio.to_thread(
        reader.clickhouse.query, "EXPLAIN indexes = 1 SELECT seq FROM vsay.logs WHERE lower(content) LIKE '%zebra%'"
    )
    assert "content_runs" in plan
    assert "Granules: 0/" in plan


async def test_search_a_page_at_a_time(reader: Reader) -> None:
    stories = []
    for number in range(7):
        story = Story(f"sess_{number}").later(hours=number // 3).claimed().started()
        stories.append(story.command(f"echo needle {number}", "needle\nneedle"))
    await reader.tell(*stories)
    whole = await hits(reader, "needle", limit=200)
    assert len(whole) == 14
    assert whole == await hits(reader, "needle", limit=3)
    assert whole[0] == ("sess_6", 4)


async def test_an_entry_without_text_is_no_hit_and_one_delivered_twice_is_one(reader: Reader, id_: str) -> None:
    story = Story(id_).claimed().started().command("true", "")
    story.record(TextShown(1, "again", 3, 4))
    await reader.tell(story)
    row = f"INSERT INTO vsay.events SELECT * FROM vsay.events WHERE session_id = '{id_}'"
    await asyncio.to_thread(reader.clickhouse.query, row)
    assert await hits(reader, "again") == [(id_, 5)]
    assert [entry["seq"] for entry in (await reader.data(f"/v1/sessions/{id_}/logs"))["logs"]] == [3, 5]
