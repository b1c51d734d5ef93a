"""Tells who calls, from the key that is shown.

All keys of the tape are in memory, read again when they are older than ``FRESH`` seconds and a call comes: no call
waits for a look at the tape of its own, and whoever sends wrong keys costs a hash each. A key that was revoked here is
refused at once, one that was revoked on another replica ``FRESH`` seconds later. While the tape cannot be read, what
was last read counts for ``STALE`` seconds; then no caller is let in but by keys from the settings.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from tickertape.server.auth.access import ANYBODY, Principal, Role
from tickertape.server.auth.keys import ConfiguredKey, digest_of, is_same, new_id, new_key
from tickertape.server.auth.session_keys import SECRET_SIZE, SESSION_PREFIX, SessionKey, SessionKeys
from tickertape.server.errors import Unauthenticated
from tickertape.server.settings import AuthMode
from tickertape.server.store import keys as rows
from tickertape.server.store.keys import Credentials, KeyRecord
from tickertape.server.store.store import Store, StoreError

FRESH = 2.0
STALE = 60.0


@dataclass(frozen=True, slots=True)
class NewKey(KeyRecord):
    """A key that was just made: the only time that it is shown."""

    key: str


#: What a key is that is none of ours, by how it begins.
_FOREIGN = {
    "sk-": " (another service's, it seems; it was not passed on)",
    "session-": " (session-ID names a session where no key is asked for; here it belongs into the URL or X-Session-Id)",
}


class Keyring:
    """The keys of one server.

    Args:
        store: the tape that holds keys.
        mode: whether they are asked for.
        configured: keys from the settings.
        session_secret: from the settings; ``None``: the tape's own, which its replicas share.
    """

    def __init__(
        self,
        store: Store,
        mode: AuthMode = AuthMode.AUTO,
        configured: Sequence[ConfiguredKey] = (),
        session_secret: bytes | None = None,
    ) -> None:
        self._store = store
        self._mode = mode
        self._configured = tuple(configured)
        self._secret = session_secret
        self._last_signer: tuple[bytes, SessionKeys] | None = None
        self._known = Credentials({}, None)
        self._fresh_until = self._read_at = self._changed_at = float("-inf")
        self._reading: asyncio.Task[None] | None = None

    async def is_on(self) -> bool:
        """Returns True if a key is asked for now."""
        if self._mode is not AuthMode.AUTO:
            return self._mode is AuthMode.REQUIRED
        return bool(self._configured) or bool((await self._fresh()).keys)

    async def identify(self, shown: str | None) -> Principal:
        """Returns who shows this key.

        Raises:
            Unauthenticated: a key is asked for, and this is none, or none any more.
            StoreError: the tape cannot be read, and has not been for long.
        """
        if shown is not None and shown.startswith(SESSION_PREFIX):
            return await self._of_session(shown)  # it says where its calls belong, whether keys are asked for or not
        if self._mode is AuthMode.OFF:
            return ANYBODY
        digest = "" if shown is None else digest_of(shown)
        for configured in self._configured:
            if is_same(configured.digest, digest):
                return Principal(configured.role, configured.id)
        known = await self._fresh()
        if self._mode is AuthMode.AUTO and not self._configured and not known.keys:
            return ANYBODY
        if shown is None:
            raise Unauthenticated(
                "this server asks for an API key: send it as 'Authorization: Bearer KEY' or 'x-api-key: KEY'"
            )
        record = known.keys.get(digest)
        if record is None:
            foreign = next((said for prefix, said in _FOREIGN.items() if shown.startswith(prefix)), "")
            raise Unauthenticated(
                f"the API key is wrong{foreign}: this server has keys of its own, from tickertape keys create, its "
                "settings, or a session's agent_key"
            )
        return Principal(Role(_checked(record).role), record.id)

    async def make(self, role: Role, name: str, expires_in: float | None) -> NewKey:
        """A new key, on tape."""
        made = make_key(role, name, expires_in)
        await self._store.write(rows.add_key, made.record, made.digest)
        self._changed()
        return NewKey(**asdict(made.record), key=made.key)

    async def revoke(self, key_id: str) -> KeyRecord:
        """Ends a key.

        Raises:
            NotFound: there is none of this id.
        """
        record = await self._store.write(rows.revoke_key, key_id)
        self._changed()
        return record

    async def make_session_key(self, session_id: str, expires_in: float) -> SessionKey:
        """A key for one session's agent."""
        secret = self._secret or (await self._fresh()).session_secret
        if secret is None:
            secret = await self._store.write(rows.session_secret, SECRET_SIZE)
            self._changed()
        return self._signer(secret).make(session_id, expires_in)

    async def _of_session(self, shown: str) -> Principal:
        secret = self._secret or (await self._fresh()).session_secret
        if secret is None:
            raise Unauthenticated("the session key is not from here: this server has made none yet")
        return Principal(Role.AGENT, session_id=self._signer(secret).session_of(shown))

    def _signer(self, secret: bytes) -> SessionKeys:
        if self._last_signer is None or self._last_signer[0] != secret:
            self._last_signer = secret, SessionKeys(secret)
        return self._last_signer[1]

    def _changed(self) -> None:
        """Something was written: what is known, and what is being read, is too old."""
        self._fresh_until, self._changed_at = float("-inf"), time.monotonic()

    async def _fresh(self) -> Credentials:
        """Returns what is on tape, as of a moment ago; on a tape so slow that reading takes longer, as of this call."""
        asked = time.monotonic()
        while time.monotonic() >= self._fresh_until and self._read_at < asked:
            # One that took too long and is over, without `_has_read` knowing yet: waiting for it again would return at
            # once, again and again, and let no other task run.
            if self._reading is None or self._reading.done():
                self._reading = asyncio.ensure_future(self._read())
                self._reading.add_done_callback(self._has_read)
            await asyncio.shield(self._reading)
        return self._known

    async def _read(self) -> None:
        begun = time.monotonic()
        try:
            self._known = await self._store.read(rows.load)
        except StoreError:
            if begun - self._read_at > STALE:
                raise
            self._fresh_until = time.monotonic() + FRESH
            return
        self._read_at = begun
        if begun > self._changed_at:
            self._fresh_until = begun + FRESH

    def _has_read(self, reading: "asyncio.Task[None]") -> None:
        if self._reading is reading:
            self._reading = None
        if not reading.cancelled():
            reading.exception()  # those who waited for it have it


@dataclass(frozen=True, slots=True)
class MadeKey:
    """A key, what is shown of it, and what is kept of it."""

    record: KeyRecord
    key: str
    digest: str


def make_key(role: Role, name: str, expires_in: float | None) -> MadeKey:
    """A new key, not on tape yet."""
    now = time.time()
    key = new_key(role)
    record = KeyRecord(new_id(), role.value, name, now, None if expires_in is None else now + expires_in, None)
    return MadeKey(record, key, digest_of(key))


def _checked(record: KeyRecord) -> KeyRecord:
    if record.revoked_at is not None:
        raise Unauthenticated(f"the API key {record.id} was revoked")
    if record.expires_at is not None and time.time() >= record.expires_at:
        raise Unauthenticated(f"the API key {record.id} has expired")
    return record
