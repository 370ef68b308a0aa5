"""One release: which adapter and which index answer for each language, as its file says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from retrieveall.errors import IncompatibleArtefactError, InputError, NotFoundError
from retrieveall.frozen import from_dict, to_dict
from retrieveall.languages import check_language
from retrieveall.names import check_digest

RELEASE_FORMAT_VERSION = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class ReleaseEntry:
    """What answers for one language.

    Attributes:
        adapter: Digest of the adapter.
        index: Digest of the index; None tags with prompts without examples.
        pinned: Held by `Releases.pin`: publishing another adapter needs ``force``.
    """

    adapter: str
    index: str | None
    pinned: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Release:
    """One consistent set of adapters and indexes.

    Attributes:
        number: 1, 2, 3 …; 0 is the empty release before the first.
        base_digest: The base of all its adapters; None where it has none.
        embedder_digest: The embedder of all its indexes; None where it has none.
        prompt_format: Of all its adapters; None where it has none.
        created_at: ISO 8601 time, passed in.
        action: What made it, for people, such as ``publish nl``.
        restored_from: The release that `Releases.rollback` copied, if it did.
    """

    number: int
    languages: Mapping[str, ReleaseEntry] = field(default_factory=dict)
    base_digest: str | None = None
    embedder_digest: str | None = None
    prompt_format: str | None = None
    created_at: str = ""
    action: str = ""
    restored_from: int | None = None
    format_version: int = RELEASE_FORMAT_VERSION

    def entry(self, language: str) -> ReleaseEntry:
        """Returns what answers for a language.

        Raises:
            NotFoundError: Nothing does.
        """
        if language not in self.languages:
            raise NotFoundError(
                f"Release {self.number} has no adapter for {language!r}; it has"
                f" {', '.join(sorted(self.languages)) or 'none'}. Publish one:"
                " `retrieveall adapters publish`."
            )
        return self.languages[language]

    def to_dict(self) -> dict[str, Any]:
        """Returns the release as JSON values."""
        return to_dict(self)


def read_release(values: Any, number: int, source: str) -> Release:
    """Reads a release from the JSON values of its file.

    Args:
        values: The file's content.
        number: The number in its name.
        source: The file, for messages.

    Raises:
        InputError: It is broken, or says that it is another one.
        IncompatibleArtefactError: It has another format version.
    """
    version = values.get("format_version") if isinstance(values, dict) else None
    if version not in (None, RELEASE_FORMAT_VERSION):
        raise IncompatibleArtefactError(
            f"{source} has format_version {version!r}, this retrieveall reads {RELEASE_FORMAT_VERSION}."
        )
    release = from_dict(Release, values, source=source, error=InputError)
    if release.number != number:
        raise InputError(f"{source} says that it is release {release.number}. Restore it from a copy.")
    for language, entry in release.languages.items():
        check_language(language)
        for digest in (entry.adapter, *([entry.index] if entry.index else [])):
            check_digest(digest)
    return release
