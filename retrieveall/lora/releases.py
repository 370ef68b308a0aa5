"""Releases: the unit of consistency. Which adapter and which index answer for each language.

``releases/<number>.json`` never changes; ``releases/CURRENT`` names one. Every change writes the next
number and then moves CURRENT. **The exclusive creation of the number file is the commit**: of two
writers that start from the same release exactly one creates it on a local disk, the other gets a
`ConflictError` (on a remote store at most one does, see `retrieveall.storage`). CURRENT is only where
readers start: one that lags behind, because a writer died before it moved it or was overtaken, is
stepped over, and the next writer mends it. So a reader sees one whole release or the one before it,
never a mixture. Source: own choice.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from retrieveall.errors import ConflictError, IncompatibleArtefactError, InputError, NotFoundError
from retrieveall.languages import POLYGLOT, check_language
from retrieveall.lora.card import DevScores, check_compatible
from retrieveall.lora.pool import AdapterPool
from retrieveall.lora.release import Release, ReleaseEntry, read_release
from retrieveall.names import check_digest
from retrieveall.storage import Store, json_bytes

CURRENT_FILE = "CURRENT"
INDEX_MARKER = "manifest.json"

_NUMBER_FILE = re.compile(r"([1-9][0-9]{0,11})\.json")


@dataclass(frozen=True, kw_only=True, slots=True)
class Publication:
    """A wish: this adapter and this index shall answer for this language."""

    language: str
    adapter: str
    index: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Published:
    """What became of wishes.

    Attributes:
        release: The release that holds what was not refused.
        refused: Language to the reason why its wish was not granted; it keeps what it had.
    """

    release: Release
    refused: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Releases:
    """The releases of a workspace. Safe to share between threads and processes.

    Every method that changes something takes ``created_at`` (ISO 8601) and returns the new release. It
    raises `ConflictError` when another writer was faster: load `current` and decide again.

    Attributes:
        store: The folder ``releases/``.
        pool: Where adapters are looked up.
        indexes: The folder ``indexes/``.
    """

    store: Store
    pool: AdapterPool
    indexes: Store

    def current_number(self) -> int:
        """Returns the number of the current release, 0 before the first; cheap enough to poll.

        Raises:
            InputError: CURRENT holds no number.
        """
        number = self._pointer()
        while self.store.exists(f"{number + 1}.json"):
            number += 1
        return number

    def current(self) -> Release:
        """Returns the current release, an empty one with number 0 before the first.

        Raises:
            InputError: A file is broken.
            NotFoundError: CURRENT names a release that is gone.
        """
        number = self.current_number()
        return self.load(number) if number else Release(number=0)

    def load(self, number: int) -> Release:
        """Returns one release.

        Raises:
            NotFoundError: There is none of this number.
            InputError: Its file is broken.
            IncompatibleArtefactError: It has another format version.
        """
        path = f"{int(number)}.json"
        if not self.store.exists(path):
            raise NotFoundError(
                f"There is no release {number} in {self.store.uri!r}; the current one is"
                f" {self.current_number()}. `retrieveall adapters list` shows what there is."
            )
        return read_release(self.store.read_json(path), number, f"{self.store.uri}/{path}")

    def history(self) -> tuple[Release, ...]:
        """Returns all releases, oldest first."""
        numbers = sorted(int(m[1]) for name in self.store.list() if (m := _NUMBER_FILE.fullmatch(name)))
        return tuple(map(self.load, numbers))

    def publish(
        self, language: str, adapter: str, index: str | None, *, created_at: str, force: bool = False
    ) -> Release:
        """Makes an adapter and an index answer for a language. See `publish_many`.

        Raises:
            ConflictError: The wish is refused, or another writer was faster.
        """
        wish = Publication(language=language, adapter=adapter, index=index)
        published = self.publish_many([wish], created_at=created_at, force=force)
        for reason in published.refused.values():
            raise ConflictError(reason)
        return published.release

    def publish_many(
        self, wishes: Sequence[Publication], *, created_at: str, force: bool = False
    ) -> Published:
        """Publishes for several languages in one release; nothing new writes nothing.

        A wish is refused where the adapter's dev F1 is below the lower bound of the one it replaces, unless
        that is the same one measured again, or where a pin holds. The others are published all or none.

        Args:
            wishes: At most one per language, at least one.
            created_at: ISO 8601 time.
            force: Refuse nothing; frees the pin.

        Raises:
            InputError: A language twice, or an adapter of another language.
            NotFoundError: An adapter or index does not exist.
            ConflictError: Another writer was faster.
            IncompatibleArtefactError: The release would mix bases, embedders or prompt formats.
        """
        wishes = [replace(wish, language=check_language(wish.language)) for wish in wishes]
        if not wishes or len({wish.language for wish in wishes}) != len(wishes):
            raise InputError(f"Publishing {[w.language for w in wishes]}; expected each language once.")
        before = self.current()
        for wish in wishes:
            self._check_wish(wish)
        refused = {} if force else self._refused(wishes, before)
        entries = {w.language: _entry(w, before, force) for w in wishes if w.language not in refused}
        if all(before.languages.get(language) == entry for language, entry in entries.items()):
            return Published(release=before, refused=refused)
        action = f"publish {', '.join(sorted(entries))}" + (" --force" if force else "")
        try:
            release = self._commit(before, {**before.languages, **entries}, action, created_at)
        except IncompatibleArtefactError as error:  # what was refused may be what does not fit any more
            raise IncompatibleArtefactError(" ".join([str(error), *refused.values()])) from None
        return Published(release=release, refused=refused)

    def pin(self, language: str, adapter: str, *, created_at: str) -> Release:
        """Makes a chosen adapter answer for a language, better or worse, and holds it there.

        Its index is the one its card names, where that still exists, else the one in use now.

        Raises:
            InputError: The adapter is of another language.
            NotFoundError: There is no such adapter.
            IncompatibleArtefactError: It does not go with the rest of the release.
            ConflictError: Another writer was faster.
        """
        language = check_language(language)
        before = self.current()
        in_use = before.languages.get(language)
        index = self.pool.get(adapter).card.index_for(language)
        if index is None or not self._has_index(language, index):
            index = in_use.index if in_use else None
        self._check_wish(Publication(language=language, adapter=adapter, index=index))
        entry = ReleaseEntry(adapter=adapter, index=index, pinned=True)
        return self._commit(
            before, {**before.languages, language: entry}, f"pin {language} {adapter}", created_at
        )

    def remove(self, language: str, *, created_at: str) -> Release:
        """Takes a language out; its adapters stay in the pool.

        Raises:
            NotFoundError: The current release does not have it.
            ConflictError: Another writer was faster.
        """
        language = check_language(language)
        before = self.current()
        before.entry(language)
        rest = {code: entry for code, entry in before.languages.items() if code != language}
        return self._commit(before, rest, f"remove {language}", created_at)

    def rollback(self, to: int | None = None, *, created_at: str) -> Release:
        """Makes a new release with the content of an older one.

        Args:
            to: Its number; None means the one before the current content, so that repeated rollbacks
                go further and further back.
            created_at: ISO 8601 time.

        Raises:
            NotFoundError: There is no such release, or an artefact of it is gone.
            ConflictError: Another writer was faster.
        """
        before = self.current()
        wanted = self._origin(before) - 1 if to is None else to
        if wanted < 1:
            raise NotFoundError(f"There is no release before {before.number} to go back to.")
        old = self.load(self._origin(self.load(wanted)))
        for language, entry in old.languages.items():
            self._check_wish(Publication(language=language, adapter=entry.adapter, index=entry.index))
        action = f"rollback to {wanted}"
        return self._commit(before, old.languages, action, created_at, restored_from=old.number)

    def _pointer(self) -> int:
        if not self.store.exists(CURRENT_FILE):
            return 0
        text = self.store.read_text(CURRENT_FILE).strip()
        if not (text.isascii() and text.isdigit()) or len(text) > 12:
            raise InputError(
                f"{self.store.uri}/{CURRENT_FILE} holds {text[:40]!r}; expected the number of a release."
                " Write the number of one of the files beside it."
            )
        return int(text)

    def _origin(self, release: Release) -> int:
        return release.number if release.restored_from is None else release.restored_from

    def _has_index(self, language: str, digest: str) -> bool:
        return self.indexes.exists(f"{language}/{check_digest(digest)}/{INDEX_MARKER}")

    def _check_wish(self, wish: Publication) -> None:
        card = self.pool.get(wish.adapter).card
        if card.language not in (wish.language, POLYGLOT):
            raise InputError(
                f"Adapter {wish.adapter} is for {card.language!r}, it cannot answer for {wish.language!r}."
                f" Choose one of {wish.language!r} or a polyglot one ({POLYGLOT})."
            )
        if wish.index is not None and not self._has_index(wish.language, wish.index):
            raise NotFoundError(
                f"There is no complete index {wish.index} for {wish.language!r} in {self.indexes.uri!r}."
                " Make it first: `retrieveall index`."
            )
        check_compatible(
            card,
            base_digest=card.base_digest,
            embedder_digest=self._embedder_of(wish.language, wish.index),
            prompt_format=card.prompt_format,
        )

    def _embedder_of(self, language: str, index: str | None) -> str | None:
        """Returns what the index says made it."""
        if index is None:
            return None
        manifest = self.indexes.read_json(f"{language}/{index}/{INDEX_MARKER}")
        digest = manifest.get("embedder_digest") if isinstance(manifest, dict) else None
        return check_digest(digest) if isinstance(digest, str) else None

    def _refused(self, wishes: Sequence[Publication], before: Release) -> dict[str, str]:
        """Returns for each language whose wish is not granted the reason."""
        reasons = {
            wish.language: self._objection(wish, before.languages.get(wish.language)) for wish in wishes
        }
        return {language: reason for language, reason in reasons.items() if reason is not None}

    def _objection(self, wish: Publication, in_use: ReleaseEntry | None) -> str | None:
        if in_use is None or in_use.adapter == wish.adapter:
            return None
        if in_use.pinned:
            held = f"{wish.language}: pinned to adapter {in_use.adapter}"
            return f"{held}. To replace and free it: {_forced(wish)}"
        before, after = self.pool.get(in_use.adapter), self.pool.get(wish.adapter)
        if after.card.trained_as == before.trained_as:  # the same weights, measured again
            return None
        old, new = before.card.dev_for(wish.language), after.card.dev_for(wish.language)
        if old is None or (new is not None and new.f1 >= old.f1_low):
            return None
        return _worse(wish, in_use, old, new)

    def _commit(
        self,
        before: Release,
        languages: Mapping[str, ReleaseEntry],
        action: str,
        created_at: str,
        restored_from: int | None = None,
    ) -> Release:
        release = Release(
            number=before.number + 1,
            languages=dict(sorted(languages.items())),
            created_at=created_at,
            action=action,
            restored_from=restored_from,
            **self._shared(languages),
        )
        try:
            self.store.write_once(f"{release.number}.json", json_bytes(release.to_dict()))
        except ConflictError:
            raise ConflictError(
                f"Release {release.number} was written by another process while this one wanted to"
                f" {action}: nothing of it was done. Look at the current release, then try again."
            ) from None
        self.store.write_text(CURRENT_FILE, f"{release.number}\n")
        return release

    def _shared(self, languages: Mapping[str, ReleaseEntry]) -> dict[str, Any]:
        """Returns the base, embedder and prompt format that all adapters and indexes agree on."""
        cards = {code: self.pool.get(entry.adapter).card for code, entry in languages.items()}
        embedders = {
            code: self._embedder_of(code, entry.index) or cards[code].embedder_digest
            for code, entry in languages.items()
        }
        return {
            "base_digest": _agreed("base model", {c: card.base_digest for c, card in cards.items()}),
            "embedder_digest": _agreed("embedder", {c: digest for c, digest in embedders.items() if digest}),
            "prompt_format": _agreed("prompt format", {c: card.prompt_format for c, card in cards.items()}),
        }


def _entry(wish: Publication, before: Release, force: bool) -> ReleaseEntry:
    """A new index beside the same adapter leaves a pin where it is."""
    in_use = before.languages.get(wish.language)
    pinned = in_use is not None and in_use.pinned and not force
    return ReleaseEntry(adapter=wish.adapter, index=wish.index, pinned=pinned)


def _agreed(what: str, by_language: Mapping[str, str]) -> str | None:
    """Returns the one value of all languages.

    Raises:
        IncompatibleArtefactError: There are several.
    """
    values = set(by_language.values())
    if len(values) > 1:
        listed = ", ".join(f"{language} {value}" for language, value in sorted(by_language.items()))
        raise IncompatibleArtefactError(
            f"One release has one {what}; this one would have {len(values)}: {listed}. Train the other"
            " languages again and publish all of them at once."
        )
    return next(iter(values), None)


def _worse(wish: Publication, in_use: ReleaseEntry, old: DevScores, new: DevScores | None) -> str:
    score = "no dev score" if new is None else f"dev F1 {new.f1:.4f}"
    return (
        f"{wish.language}: adapter {wish.adapter} has {score}, below {old.f1_low:.4f}, the lower bound of"
        f" {in_use.adapter} (dev F1 {old.f1:.4f}), which it would replace. If that is meant: {_forced(wish)}"
    )


def _forced(wish: Publication) -> str:
    return f"`retrieveall adapters publish {wish.language}@{wish.adapter} --force` (force=True)."
