"""Which taught examples a caller sees, and what it must have seen."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from retrieveall.errors import InputError
from retrieveall.taught.log import SHARED

SEQ_PATTERN = r"^([0-9]{1,15})\.([0-9]{1,15})$"
_TOKEN = re.compile(SEQ_PATTERN, re.ASCII)


@dataclass(frozen=True, kw_only=True, slots=True)
class TaughtView:
    """A namespace and the shared one, each from a certain call on.

    Attributes:
        namespace: The caller's own; `SHARED` where it has no other.
        own_seq: Number of a call of its own that an answer must have seen.
        shared_seq: Number of a shared call that an answer must have seen.
    """

    namespace: str = SHARED
    own_seq: int = 0
    shared_seq: int = 0

    @property
    def token(self) -> str:
        """What a caller sends back as ``taught_seq``: ``<own>.<shared>``."""
        return f"{self.own_seq}.{self.shared_seq}"

    @classmethod
    def of(cls, namespace: str, token: str | None) -> Self:
        """Returns the view of a namespace that has seen what a token names.

        Raises:
            InputError: It is no ``taught_seq``.
        """
        if token is None:
            return cls(namespace=namespace)
        found = _TOKEN.fullmatch(token)
        if found is None:
            raise InputError(
                f"taught_seq {token[:40]!r} was given; expected one that an answer of /v1/examples carried,"
                ' such as "12.3".'
            )
        return cls(namespace=namespace, own_seq=int(found[1]), shared_seq=int(found[2]))
