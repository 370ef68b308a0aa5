"""What was learned once from the indexes of a workspace, and is then read: routers and priors.

It is a function of the indexes' training sentences (taught examples are not among them), so it is kept by
the digest of both, in ``<room>/<digest>/``: ``weights.safetensors`` and, written last, ``manifest.json``.
Where it is missing or broken it is learned again; one process of a machine does it, the others wait.
`retrieveall gc` removes what no kept release needs.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from retrieveall.digests import digest_json
from retrieveall.errors import BrokenArtefactError, InputError, NotFoundError
from retrieveall.folders import publish_folder, temporary_folder
from retrieveall.lora.gc import LEARNED_MARKER
from retrieveall.storage import Store, json_bytes

_WEIGHTS: Final = "weights.safetensors"
_LOCK: Final = ".lock"

T = TypeVar("T")
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Learned(Generic[T]):
    """Something that is learned from indexes.

    Attributes:
        kind: What it is, for people, such as ``router``.
        store: The room where it is kept.
        key: What it depends on, as JSON values, with ``indexes``: the index digests by language.
        pack: Makes tensors of it, and more JSON values for the manifest.
        unpack: Makes it of the tensors and the manifest.
    """

    kind: str
    store: Store
    key: Mapping[str, Any]
    pack: Callable[[T], tuple[dict[str, torch.Tensor], dict[str, Any]]]
    unpack: Callable[[Mapping[str, torch.Tensor], Mapping[str, Any]], T]

    @property
    def name(self) -> str:
        """The digest that names its folder."""
        return digest_json(self.key)

    def read(self) -> T | None:
        """Returns what is kept; None where nothing is, or where it is broken."""
        if not self.store.exists(f"{self.name}/{LEARNED_MARKER}"):
            return None
        try:
            return self._read(self.name)
        except BrokenArtefactError as error:
            log.warning("%s It is learned again.", error)
            with contextlib.suppress(OSError):
                self.store.remove(self.name, marker=LEARNED_MARKER)
            return None

    def read_or_learn(self, learn: Callable[[], T]) -> T:
        """Returns what is kept; learns and keeps it where it is not there.

        Args:
            learn: Learns it; nothing else of the same room, as the room is locked meanwhile.

        Raises:
            Exception: Whatever `learn` raises.
        """
        found = self.read()
        if found is not None:
            return found
        with contextlib.ExitStack() as held:
            with contextlib.suppress(OSError):  # a workspace that may only be read
                held.enter_context(self.store.lock(_LOCK))
            found = self.read()
            if found is None:
                found = learn()
                self._keep(self.name, found)
            return found

    def _read(self, name: str) -> T:
        """Reads what was kept.

        Raises:
            BrokenArtefactError: It is not what was written.
        """
        try:
            manifest = self.store.read_json(f"{name}/{LEARNED_MARKER}")
            data = self.store.read_bytes(f"{name}/{_WEIGHTS}")
            if hashlib.sha256(data).hexdigest() != manifest["weights_sha256"]:
                raise InputError(f"{_WEIGHTS} was changed after it was written.")
            return self.unpack(load(data), manifest)
        except (InputError, NotFoundError, SafetensorError, KeyError, TypeError) as error:
            where = f"The {self.kind} {name} in {self.store.uri!r}"
            raise BrokenArtefactError(f"{where} is broken: {error}") from None

    def _keep(self, name: str, learned: T) -> None:
        tensors, more = self.pack(learned)
        data = save(tensors)
        manifest = {**self.key, **more, "weights_sha256": hashlib.sha256(data).hexdigest()}
        try:
            with temporary_folder(self.store) as folder:
                (folder / _WEIGHTS).write_bytes(data)
                (folder / LEARNED_MARKER).write_bytes(json_bytes(manifest))
                publish_folder(self.store, folder, name, marker=LEARNED_MARKER)
        except OSError as error:  # a workspace that may only be read
            log.warning(
                "The %s that was learned could not be kept in %s: %s", self.kind, self.store.uri, error
            )
