"""API keys: who may ask, in which languages, how much. Kept in ``keys.json`` of the workspace.

A key is ``ra_<id>_<secret>``. The id is public and finds the record; of the secret, 256 random bits,
only the SHA-256 is kept. A slow hash would add nothing: no dictionary holds 256 random bits.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from retrieveall.errors import ConfigError, InputError, NotFoundError
from retrieveall.frozen import from_dict, to_dict
from retrieveall.languages import check_language
from retrieveall.storage import Store
from retrieveall.taught.log import SHARED, check_namespace

KEYS_FILE = "keys.json"
KEYS_FORMAT_VERSION = 1
_LOCK = ".keys.lock"
_KEY = re.compile(r"ra_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,100}")
_NOBODY = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyRecord:
    """What is kept of a key.

    Attributes:
        id: 12 hexadecimal digits, part of the key.
        secret_sha256: Of the secret part.
        name: Whose it is, for people.
        languages: The languages it may be answered in; None for all.
        texts_per_minute: None for any number.
        admin: May reload adapters, see replicas and teach shared examples.
        namespace: Of its taught examples; None for one of its own, called by its id.
        created_at: ISO 8601 time.
        revoked_at: ISO 8601 time; None while it is good.
    """

    id: str
    secret_sha256: str
    name: str
    created_at: str
    languages: tuple[str, ...] | None = None
    texts_per_minute: int | None = None
    admin: bool = False
    namespace: str | None = None
    revoked_at: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Returns the record as JSON values."""
        return to_dict(self)


@dataclass(frozen=True, kw_only=True)
class KeyFile:
    """The keys of a workspace. Safe between processes on a local disk.

    Attributes:
        store: The workspace's folder.
        random_secret: Makes the secret part of a key.
        random_id: Makes its id.
    """

    store: Store
    random_secret: Callable[[], str] = lambda: secrets.token_urlsafe(32)
    random_id: Callable[[], str] = lambda: secrets.token_hex(6)

    def list(self) -> tuple[KeyRecord, ...]:
        """Returns all records, revoked ones too, oldest first.

        Raises:
            ConfigError: The file is broken or of another version.
        """
        if not self.store.exists(KEYS_FILE):
            return ()
        source = f"{self.store.uri}/{KEYS_FILE}"
        values = self.store.read_json(KEYS_FILE)
        if not isinstance(values, dict) or values.get("format_version") != KEYS_FORMAT_VERSION:
            raise ConfigError(
                f"{source} is no list of keys of format {KEYS_FORMAT_VERSION}. Restore it from a copy, or"
                " remove it and create the keys again."
            )
        return tuple(from_dict(KeyRecord, one, source=source) for one in values.get("keys", ()))

    def create(
        self,
        name: str,
        *,
        created_at: str,
        languages: Sequence[str] | None = None,
        texts_per_minute: int | None = None,
        admin: bool = False,
        namespace: str | None = None,
    ) -> tuple[str, KeyRecord]:
        """Makes a key.

        Args:
            name: Whose it is.
            created_at: ISO 8601 time.
            languages: The languages it may be answered in; None for all.
            texts_per_minute: None for any number.
            admin: May reload adapters, see replicas and teach shared examples.
            namespace: Of its taught examples; None for one of its own.

        Returns:
            The key itself, which is kept nowhere, and its record.

        Raises:
            InputError: The name holds control characters, a language is no code, the rate is below 1, or the
                namespace is no name or the shared one.
        """
        if _NAME.fullmatch(name) is None:
            raise InputError(
                f"The key's name {name[:120]!r} was given; expected 1 to 100 visible characters."
            )
        if texts_per_minute is not None and texts_per_minute < 1:
            raise InputError(f"{texts_per_minute} texts per minute were given; expected at least 1.")
        if namespace is not None and check_namespace(namespace) == SHARED:
            raise InputError(
                f"The namespace {SHARED!r} was given, which every key sees. Name another one; --admin lets"
                " a key teach shared examples."
            )
        secret = self.random_secret()
        record = KeyRecord(
            id=self.random_id(),
            secret_sha256=_hashed(secret),
            name=name,
            created_at=created_at,
            languages=None if languages is None else tuple(sorted(set(map(check_language, languages)))),
            texts_per_minute=texts_per_minute,
            admin=admin,
            namespace=namespace,
        )
        with self.store.lock(_LOCK):
            self._write([*self.list(), record])
        return f"ra_{record.id}_{secret}", record

    def revoke(self, key_id: str, *, revoked_at: str) -> KeyRecord:
        """Makes a key useless, within seconds also for services that run.

        Raises:
            NotFoundError: There is no good key of this id.
        """
        with self.store.lock(_LOCK):
            records = self.list()
            if all(record.id != key_id or record.revoked_at is not None for record in records):
                good = ", ".join(record.id for record in records if record.revoked_at is None)
                raise NotFoundError(f"There is no good key {key_id!r}; there are: {good or 'none'}.")
            revoked = [replace(r, revoked_at=revoked_at) if r.id == key_id else r for r in records]
            self._write(revoked)
        return next(record for record in revoked if record.id == key_id)

    def _write(self, records: Sequence[KeyRecord]) -> None:
        keys = [record.to_dict() for record in records]
        self.store.write_json(KEYS_FILE, {"format_version": KEYS_FORMAT_VERSION, "keys": keys})


class KeyRing:
    """The good keys, ready to be compared with.

    Args:
        records: As `KeyFile.list` returns them.
    """

    def __init__(self, records: Sequence[KeyRecord]) -> None:
        self._records: Mapping[str, KeyRecord] = {r.id: r for r in records if r.revoked_at is None}

    @property
    def has_rates(self) -> bool:
        """Whether any key has a rate."""
        return any(record.texts_per_minute is not None for record in self._records.values())

    def find(self, key: str) -> KeyRecord | None:
        """Returns the record of a key that is good; the comparison's time does not depend on the secret."""
        parts = _KEY.fullmatch(key)
        record = self._records.get(parts[1]) if parts else None
        expected = _NOBODY if record is None else record.secret_sha256
        same = hmac.compare_digest(_hashed(parts[2] if parts else ""), expected)
        return record if same and parts else None


def _hashed(secret: str) -> str:
    return hashlib.sha256(secret.encode("ascii")).hexdigest()
