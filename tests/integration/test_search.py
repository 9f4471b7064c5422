"""Search looks in the newest sessions first, and gives what all of them have all the same, in order, a page at a time."""

import random
from datetime import datetime, timedelta
from typing import Any

import pytest

from contracts.events import SessionClaimed
from services.audit.clickhouse import Store
from services.session_api import search
from services.session_api.history import History
from tests.integration.stories import DB, JANE, JOHN, NOON, ORG, WEB, Story

SESSIONS = 40


def told(randomness: random.Random, number: int) -> Story:
    """A session over several hours, with the needle at some places; some begin while others go on."""
    story = Story(f"sess_{randomness.getrandbits(40):010x}", at=NOON + timedelta(minutes=37 * number))
    story.claimed(randomness.choice((JOHN, JANE)), randomness.choice((WEB, DB))).started()
    for _ in range(randomness.randrange(1, 4)):
        story.later(minutes=randomness.choice((0, 1, 50, 200)))
        story.command(
            randomness.choice(("ls", "echo NEEDLE", "rare" if number == 3 else "cat")), randomness.choice(("hay", "a needle", ""))
        )
    return story


async def paged(history: History, limit: int, **wanted: Any) -> list[tuple[str, int]]:
    """Session and seq of every hit, over all pages."""
    found: list[tuple[str, int]] = []
    before = None
    while True:
        page = await search.page(history, search.Wanted(org_id=ORG, before=before, **wanted), limit)
        found += [(hit.session_id, hit.seq) for hit in page.hits]
        assert len(page.hits) <= limit
        if page.next_cursor is None:
            return found
        assert len(page.hits) == limit
        before = search.decode_cursor(page.next_cursor)


def expected(
    stories: list[Story], text: str, since: datetime | None = None, until: datetime | None = None, user: str = ""
) -> list[tuple[str, int]]:
    """What the stories themselves say."""
    found = []
    for story in stories:
        claimed = story.events[0].event()
        assert isinstance(claimed, SessionClaimed)
        for event in story.events:
            content = getattr(event.event(), "text", "")
            at = search.EPOCH + timedelta(microseconds=event.at)
            is_within = (not since or at >= since) and (not until or at < until)
            if text in content.lower() and is_within and user in ("", claimed.user.id):
                found.append((event.at, story.session_id, event.seq))
    return [(session_id, seq) for _, session_id, seq in sorted(found, reverse=True)]


@pytest.mark.parametrize("newest", [(), (1, 3), (5, 20), search.NEWEST_SESSIONS], ids=str)
async def test_windows_change_nothing_in_what_is_found(
    store: Store, history: History, monkeypatch: pytest.MonkeyPatch, newest: tuple[int, ...]
) -> None:
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    randomness = random.Random(seed)
    stories = [told(randomness, number) for number in range(SESSIONS)]
    foreign = Story("sess_foreign", org_id="org_other").claimed().started().command("echo needle", "needle")
    events = [event for story in (*stories, foreign) for event in story.events]
    randomness.shuffle(events)
    await store.insert_events(events)
    await store.insert_events(randomness.sample(events, len(events) // 2))  # delivered twice
    monkeypatch.setattr(search, "NEWEST_SESSIONS", newest)

    assert await paged(history, 4, text="needle") == expected(stories, "needle")
    assert await paged(history, 50, text="needle") == expected(stories, "needle")
    assert await paged(history, 3, text="rare") == expected(stories, "rare")
    assert await paged(history, 3, text="nowhere") == []
    since, until = NOON + timedelta(hours=5, minutes=20), NOON + timedelta(hours=17, minutes=41)
    assert await paged(history, 3, text="needle", since=since) == expected(stories, "needle", since)
    assert await paged(history, 3, text="needle", until=until) == expected(stories, "needle", None, until)
    assert await paged(history, 2, text="needle", since=since, until=until) == expected(stories, "needle", since, until)
    assert await paged(history, 3, text="needle", user_id=JANE.id) == expected(stories, "needle", user=JANE.id)


async def test_a_cursor_beyond_all_time_finds_everything_or_nothing(store: Store, history: History) -> None:
    await store.insert_events(Story("sess_1").claimed().started().command("needle").events)
    for at, found in ((2**62 - 1, 1), (0, 0)):
        page = await search.page(history, search.Wanted(text="needle", org_id=ORG, before=(at, "sess_z", 1)), 10)
        assert len(page.hits) == found
