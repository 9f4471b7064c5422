"""Host keys that were pinned at the first use of a machine, in bucket `host_keys`."""

import msgspec
from nats.js.errors import KeyNotFoundError, KeyWrongLastSequenceError
from nats.js.kv import KeyValue

from contracts.directory import TrustedHostKey

_decoder = msgspec.json.Decoder(TrustedHostKey)


class HostKeys:
    """Whoever pins first wins; nothing here ever replaces a key. Methods raise `nats.errors.Error`."""

    def __init__(self, bucket: KeyValue) -> None:
        self._bucket = bucket

    async def pinned(self, machine_id: str) -> str | None:
        """The machine's key; None when it was not met before. Raises `msgspec.MsgspecError` for a value that is none."""
        try:
            entry = await self._bucket.get(machine_id)
        except KeyNotFoundError:
            return None
        return _decoder.decode(entry.value or b"").host_key

    async def pin(self, machine_id: str, trusted: TrustedHostKey) -> bool:
        """Pin this key. False, and nothing changed, when another session was faster."""
        try:
            await self._bucket.create(machine_id, msgspec.json.encode(trusted))
        except KeyWrongLastSequenceError:
            return False
        return True
