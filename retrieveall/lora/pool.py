"""The pool: all adapters of a workspace, ``<pool>/<language>/<digest>/`` with three files each.

``adapter_config.json`` and ``adapter_model.safetensors`` are plain PEFT files, ``card.json`` says what
they are; without its card an adapter does not exist. An adapter is never changed: its digest covers
the weights, the configuration and the card without its date, so the same training made again is the
same adapter.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from retrieveall.digests import digest_json
from retrieveall.errors import InputError, NotFoundError
from retrieveall.folders import fetch_folder, publish_folder, temporary_folder
from retrieveall.languages import check_language
from retrieveall.lora.card import AdapterCard, check_card, read_card
from retrieveall.lora.peft_files import CONFIG_FILE, WEIGHTS_FILE, PeftFiles, check_peft_files
from retrieveall.names import check_digest
from retrieveall.storage import Store, json_bytes

CARD_FILE = "card.json"
_CARD_MAX_BYTES = 4 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolAdapter:
    """One adapter of a pool.

    Attributes:
        digest: Its name, 16 hexadecimal digits, unique over all languages.
    """

    digest: str
    card: AdapterCard

    @property
    def language(self) -> str:
        """The folder it stands in: a language, or ``mul``."""
        return self.card.language

    @property
    def trained_as(self) -> str:
        """Digest of the adapter that training made: its own, unless it is that one measured again."""
        return self.card.trained_as or self.digest

    def to_dict(self) -> dict[str, Any]:
        """Returns digest and card as JSON values."""
        return {"digest": self.digest, **self.card.to_dict()}


@dataclass(frozen=True, kw_only=True)
class AdapterPool:
    """The adapters in one folder. Safe to share between threads and processes.

    Attributes:
        store: The folder ``pool/``.
        cache: Where adapters of a remote pool are copied to; None is the user's cache folder.
    """

    store: Store
    cache: Path | None = field(default=None)

    def add(self, folder: Path, card: AdapterCard) -> str:
        """Adds an adapter; the one that is there already is left alone.

        Args:
            folder: Holds PEFT's two files; other files in it are not taken.
            card: What they are.

        Returns:
            The adapter's digest.

        Raises:
            InputError: Files or card do not pass; nothing was added.
        """
        check_card(card)
        files = check_peft_files(Path(folder), base_model=card.base_model)
        digest = adapter_digest(files, card)
        with temporary_folder(self.store) as temporary:
            (temporary / CONFIG_FILE).write_bytes(json_bytes(files.config))
            shutil.copyfile(Path(folder) / WEIGHTS_FILE, temporary / WEIGHTS_FILE)
            (temporary / CARD_FILE).write_bytes(json_bytes(card.to_dict()))
            publish_folder(self.store, temporary, f"{card.language}/{digest}", marker=CARD_FILE)
        return digest

    def get(self, digest: str) -> PoolAdapter:
        """Returns an adapter by its digest.

        Raises:
            NotFoundError: There is none.
            InputError: Its card is broken.
            IncompatibleArtefactError: Its card has another format version.
        """
        language = self._language_of(digest)
        return PoolAdapter(digest=digest, card=self._card(language, digest))

    def has(self, digest: str) -> bool:
        """Tells whether an adapter is there."""
        try:
            return bool(self._language_of(digest))
        except NotFoundError:
            return False

    def list(self, language: str | None = None) -> tuple[PoolAdapter, ...]:
        """Returns all adapters, or those of one language, by language and time of making.

        Raises:
            InputError: A card is broken.
            IncompatibleArtefactError: A card has another format version.
        """
        languages = self._languages() if language is None else (check_language(language),)
        found = [
            PoolAdapter(digest=d, card=self._card(code, d)) for code in languages for d in self._digests(code)
        ]
        return tuple(sorted(found, key=lambda a: (a.language, a.card.created_at, a.digest)))

    def path(self, digest: str) -> Path:
        """Returns a local folder that PEFT can load; a remote adapter is copied to the cache first.

        Raises:
            NotFoundError: There is no such adapter.
        """
        language = self._language_of(digest)
        return fetch_folder(self.store, f"{language}/{digest}", digest, cache=self.cache)

    def verify(self, digest: str) -> PoolAdapter:
        """Reads an adapter whole and checks that it still is what its name says.

        Raises:
            NotFoundError: There is no such adapter.
            InputError: Its files were changed or are broken.
        """
        adapter = self.get(digest)
        found = adapter_digest(
            check_peft_files(self.path(digest), base_model=adapter.card.base_model), adapter.card
        )
        if found != digest:
            raise InputError(
                f"The {adapter.language} adapter {digest} holds content with digest {found}: it was changed."
                " Remove its folder and train or copy it again."
            )
        return adapter

    def _language_of(self, digest: str) -> str:
        check_digest(digest)
        for language in self._languages():
            if self.store.exists(f"{language}/{digest}/{CARD_FILE}"):
                return language
        raise NotFoundError(
            f"There is no adapter {digest} in {self.store.uri!r}."
            " `retrieveall adapters list` shows what there is."
        )

    def _languages(self) -> tuple[str, ...]:
        return tuple(name for name in self.store.list() if self.store.is_folder(name))

    def _digests(self, language: str) -> tuple[str, ...]:
        names = self.store.list(language)
        return tuple(name for name in names if self.store.exists(f"{language}/{name}/{CARD_FILE}"))

    def _card(self, language: str, digest: str) -> AdapterCard:
        path = f"{language}/{digest}/{CARD_FILE}"
        source = f"{self.store.uri}/{path}"
        if self.store.size_bytes(path) > _CARD_MAX_BYTES:
            raise InputError(f"{source} is larger than {_CARD_MAX_BYTES} bytes; expected a card.")
        card = read_card(self.store.read_json(path), source=source)
        if card.language != language:
            raise InputError(f"{source} says language {card.language!r}; it stands in {language!r}.")
        return card


def adapter_digest(files: PeftFiles, card: AdapterCard) -> str:
    """Returns the name of an adapter: a digest of its files and of its card without the date.

    Sources, what belongs to priors and `trained_as` count where there are some: adapters without keep the
    names that they had.
    """
    optional = {
        "sources": card.sources,
        "prior_weights": card.prior_weights,
        "prior_indexes": card.prior_indexes,
        "prior_format": card.prior_format,
        "trained_as": card.trained_as,
    }
    uncounted = {"created_at", *(name for name, value in optional.items() if not value)}
    counted = {key: value for key, value in card.to_dict().items() if key not in uncounted}
    return digest_json({"files": files.digest, "card": counted})
