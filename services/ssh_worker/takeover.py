"""A session whose worker is gone: the worker that is given its command ends it, the chain continued."""

from collections.abc import Callable

from contracts.commands import OpenSession
from contracts.events import EndReason, SessionEnded
from contracts.wire import Recorded
from services.runtime.record import Record
from services.ssh_worker.journal import Journal
from services.ssh_worker.lease import Lease
from services.ssh_worker.live_view import LiveView
from services.ssh_worker.recorder import NotOwnerError, Recorder
from services.ssh_worker.session import Session, Status, Stopped, evolve


async def end_lost_session(
    command: OpenSession,
    last: Recorded,
    lease: Lease,
    record: Record,
    recorder: Recorder,
    live_view: LiveView,
    *,
    ended: Callable[[SessionEnded], None],
) -> bool:
    """End the session whose record ends with `last`, where `recorder` stands; `ended` as for `Journal`.

    False when its worker still wrote meanwhile.
    """
    if last.type != str(SessionEnded.__struct_config__.tag):
        journal = Journal(command, lease, recorder, ended=ended, state=await _counters(record, command.session_id))
        ending = Stopped(EndReason.WORKER_LOST, "the worker that owned the session is gone")
        try:
            await journal.happens(ending)
            await recorder.stored(recorder.seq)
        except NotOwnerError:
            return False
        await live_view.show_ended(ending, journal.state.commands_total)
    await lease.release()
    return True


async def _counters(record: Record, session_id: str) -> Session:
    """A claimed session's counters as its last events of each kind tell them."""
    state = Session(status=Status.CLAIMED)
    for type_ in ("output", "input", "command"):
        if stored := await record.last(session_id, type_):
            state = evolve(state, stored.recorded.event())
    return state
