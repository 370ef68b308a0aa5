"""Garbage: adapters, indexes, routers and priors that no kept release needs, and what crashes left behind.

Numbers of releases stay as history; a release that is not kept may lose its artefacts, after which
rolling back to it is refused. Nothing younger than the age limit is removed: it may belong to a
training or an indexing that has not published yet, so the limit must be longer than the longest of
them. A job that pins an older release needs that release to be among the kept ones. What a router has
learned stays while a kept release has just the indexes it learned from, a prior while one of its languages
learns from just those; the indexes that priors share stay with them, so that both can be learned again, and
with an adapter that was measured again the one that training made.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Final, Literal

from retrieveall.errors import InputError, NotFoundError
from retrieveall.frozen import to_dict
from retrieveall.lora.card import PRIOR_FORMAT, AdapterCard, prior_sources
from retrieveall.lora.pool import CARD_FILE
from retrieveall.lora.release import Release
from retrieveall.lora.releases import INDEX_MARKER, Releases
from retrieveall.storage import TEMPORARY_PREFIX, Store, StoredFile

if TYPE_CHECKING:
    from retrieveall.workspace import Workspace

Kind = Literal["adapter", "index", "router", "prior", "temporary"]
LEARNED_MARKER: Final = "manifest.json"
_ROOMS: tuple[tuple[str, Kind, str], ...] = (
    ("pool", "adapter", CARD_FILE),
    ("indexes", "index", INDEX_MARKER),
)
_LEARNED: tuple[tuple[str, Kind], ...] = (("routers", "router"), ("priors", "prior"))
_MARKERS = {kind: marker for _, kind, marker in _ROOMS} | {kind: LEARNED_MARKER for _, kind in _LEARNED}
CardOf = Callable[[str], AdapterCard | None]
"""Returns an adapter's card by its digest, None where it is gone."""
_TEMPORARY = re.compile(rf"{re.escape(TEMPORARY_PREFIX)}.*|.*\.[0-9a-f]{{32}}\.tmp")


@dataclass(frozen=True, kw_only=True, slots=True)
class Garbage:
    """A file or folder that is not needed any more.

    Attributes:
        path: Relative to the workspace.
        language: Of an adapter or index.
        digest: Of an adapter, index, router or prior.
    """

    path: str
    kind: Kind
    size_bytes: int
    language: str | None = None
    digest: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class GarbageReport:
    """What was removed, or with `dry_run` would be.

    Attributes:
        kept_releases: Numbers of the releases whose artefacts stay.
        too_young: How many unnamed artefacts stay because of the age limit.
    """

    removed: tuple[Garbage, ...]
    size_bytes: int
    kept_releases: tuple[int, ...]
    too_young: int
    dry_run: bool

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as JSON values."""
        return to_dict(self)


def collect_garbage(
    workspace: Workspace, *, now_s: float, min_age_s: float, keep_releases: int = 2, dry_run: bool = False
) -> GarbageReport:
    """Removes what no kept release names.

    Args:
        workspace: Where.
        now_s: Unix time on the clock of the store.
        min_age_s: What was changed within so many seconds stays.
        keep_releases: How many of the newest releases keep their artefacts; the current one always does.
        dry_run: Only tell.

    Raises:
        InputError: `keep_releases` is below 1 or `min_age_s` below 0.
    """
    if keep_releases < 1 or min_age_s < 0:
        raise InputError(
            f"keep_releases={keep_releases} and min_age_s={min_age_s} were given; expected at least 1 and 0:"
            " the current release always keeps its artefacts."
        )
    kept = _kept(workspace.releases, keep_releases)
    cards: CardOf = cache(partial(_card, workspace))
    named = _named(workspace, kept, cards)
    before_s = now_s - min_age_s
    artefacts = [*_artefacts(workspace, named), *_unnamed_learned(workspace, named)]
    inside = tuple(f"{garbage.path}/" for garbage, _ in artefacts)
    leftovers = [pair for pair in _leftovers(workspace.store) if not pair[0].path.startswith(inside)]
    found = [*artefacts, *leftovers]
    old = [garbage for garbage, changed_s in found if changed_s is not None and changed_s < before_s]
    removed = [g for g in old if dry_run or _remove(workspace, g, keep_releases, cards)]
    return GarbageReport(
        removed=tuple(removed),
        size_bytes=sum(garbage.size_bytes for garbage in removed),
        kept_releases=tuple(release.number for release in kept),
        too_young=len(found) - len(old),
        dry_run=dry_run,
    )


def _kept(releases: Releases, keep_releases: int) -> list[Release]:
    current = releases.current_number()
    numbers = range(max(1, current - keep_releases + 1), current + 1)
    return [releases.load(number) for number in numbers]


def _named(workspace: Workspace, kept: Iterable[Release], card_of: CardOf) -> set[tuple[Kind, str]]:
    """Returns adapters, ``language/digest`` of indexes, and what was learned that must stay."""
    named: set[tuple[Kind, str]] = set()
    routers = _learned_from(workspace.routers)
    priors = _learned_from(workspace.priors, PRIOR_FORMAT)
    for release in kept:
        indexes = {code: entry.index for code, entry in release.languages.items() if entry.index is not None}
        corpora = {code: list(_parts(workspace, code, digest))[-1] for code, digest in indexes.items()}
        named |= {("router", digest) for digest, learned in routers.items() if learned == corpora}
        cards = {code: card_of(entry.adapter) for code, entry in release.languages.items()}
        sources = [
            prior_sources(code, index, card.prior_indexes if (card := cards[code]) else {})
            for code, index in corpora.items()
        ]
        named |= {("prior", digest) for digest, learned in priors.items() if learned in sources}
        named |= {("index", f"{code}/{digest}") for some in sources for code, digest in some.items()}
        for language, entry in release.languages.items():
            named.add(("adapter", entry.adapter))
            if (card := cards[language]) and card.trained_as:
                named.add(("adapter", card.trained_as))  # or the same command would train it again
            if entry.index is not None:
                named |= {
                    ("index", f"{language}/{digest}") for digest in _parts(workspace, language, entry.index)
                }
    return named


def _card(workspace: Workspace, adapter: str) -> AdapterCard | None:
    try:
        return workspace.pool.get(adapter).card
    except NotFoundError:
        return None


def _parts(workspace: Workspace, language: str, digest: str) -> Iterable[str]:
    """Yields an index and those that it is made of, the corpus's last (see `manifest.Folded`)."""
    yield digest
    manifest = f"{language}/{digest}/{INDEX_MARKER}"
    if workspace.indexes.exists(manifest):
        folded = workspace.indexes.read_json(manifest).get("folded")
        yield from (folded["taught"], folded["index"]) if folded else ()


def _learned_from(store: Store, version: int | None = None) -> dict[str, dict[str, str]]:
    """Returns by digest what each complete router or prior was learned from: index digests by language.

    Args:
        store: Their room.
        version: Only those of this format.
    """
    found = {}
    for digest in store.list():
        with contextlib.suppress(InputError, TypeError, KeyError, ValueError):  # broken
            if store.exists(f"{digest}/{LEARNED_MARKER}"):
                manifest = store.read_json(f"{digest}/{LEARNED_MARKER}")
                if version in (None, manifest["format_version"]):
                    found[digest] = dict(manifest["indexes"])
    return found


def _unnamed_learned(
    workspace: Workspace, named: set[tuple[Kind, str]]
) -> Iterable[tuple[Garbage, float | None]]:
    """Yields routers and priors that no kept release needs, broken ones too, with their last change."""
    for room, kind in _LEARNED:
        folders: dict[str, list[StoredFile]] = {}
        for file in workspace.store.child(room).files():
            digest, _, rest = file.path.partition("/")
            if rest and not _is_temporary(digest):
                folders.setdefault(digest, []).append(file)
        for digest, files in folders.items():
            if (kind, digest) not in named:
                size = sum(file.size_bytes for file in files)
                garbage = Garbage(path=f"{room}/{digest}", kind=kind, size_bytes=size, digest=digest)
                yield garbage, _last_change(files)


def _artefacts(workspace: Workspace, named: set[tuple[Kind, str]]) -> Iterable[tuple[Garbage, float | None]]:
    """Yields unnamed adapters and indexes, incomplete ones too, with the time of their last change."""
    for room, kind, _ in _ROOMS:
        folders: dict[tuple[str, str], list[StoredFile]] = {}
        for file in workspace.store.child(room).files():
            parts = file.path.split("/")
            if len(parts) >= 3 and not any(map(_is_temporary, parts[:2])):
                folders.setdefault((parts[0], parts[1]), []).append(file)
        for (language, digest), files in folders.items():
            if not {(kind, digest), (kind, f"{language}/{digest}")} & named:
                size = sum(file.size_bytes for file in files)
                path = f"{room}/{language}/{digest}"
                garbage = Garbage(path=path, kind=kind, size_bytes=size, language=language, digest=digest)
                yield garbage, _last_change(files)


def _leftovers(store: Store) -> Iterable[tuple[Garbage, float | None]]:
    """Yields what carries a temporary name, the outermost folder of each."""
    outermost: dict[str, list[StoredFile]] = {}
    for file in store.entries():
        parts = file.path.split("/")
        depth = next((i for i, part in enumerate(parts) if _is_temporary(part)), None)
        if depth is not None:
            outermost.setdefault("/".join(parts[: depth + 1]), []).append(file)
    for path, files in outermost.items():
        size = sum(file.size_bytes for file in files)
        yield Garbage(path=path, kind="temporary", size_bytes=size), _last_change(files)


def _is_temporary(name: str) -> bool:
    return _TEMPORARY.fullmatch(name) is not None


def _last_change(files: Iterable[StoredFile]) -> float | None:
    """Returns the newest time; None where one is unknown, which counts as young."""
    times = [file.modified_s for file in files]
    known = [time_s for time_s in times if time_s is not None]
    return max(known) if known and len(known) == len(times) else None


def _remove(workspace: Workspace, garbage: Garbage, keep_releases: int, card_of: CardOf) -> bool:
    """Removes one thing, unless a release made meanwhile names it."""
    if garbage.kind != "temporary":
        named = _named(workspace, _kept(workspace.releases, keep_releases), card_of)
        if {(garbage.kind, garbage.digest), (garbage.kind, f"{garbage.language}/{garbage.digest}")} & named:
            return False
    workspace.store.remove(garbage.path, marker=_MARKERS.get(garbage.kind))
    return True
