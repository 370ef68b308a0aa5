"""Who asks: API keys, or nobody but this machine. No Ray in here."""

from __future__ import annotations

import ipaddress
import logging
from dataclasses import dataclass

from retrieveall.errors import BrokenArtefactError, ForbiddenError, RetrieveAllError, UnknownKeyError
from retrieveall.routing import likely_shares
from retrieveall.tagger import ServedAdapter
from retrieveall.types import Route
from serve_apps.keys import KeyFile, KeyRecord, KeyRing

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Caller:
    """Who sent a request, and what it may do.

    Attributes:
        id: Of the key; ``local`` where none are checked.
        languages: The languages it may be answered in; None for all.
        texts_per_minute: None for any number.
        admin: May reload adapters, see replicas and teach shared examples.
        namespace: Whose taught examples it sees beside the shared ones.
    """

    id: str
    namespace: str
    languages: frozenset[str] | None = None
    texts_per_minute: int | None = None
    admin: bool = False

    @classmethod
    def of(cls, record: KeyRecord) -> Caller:
        """Returns the caller of a key."""
        languages = None if record.languages is None else frozenset(record.languages)
        return cls(
            id=record.id,
            namespace=record.namespace or record.id,
            languages=languages,
            texts_per_minute=record.texts_per_minute,
            admin=record.admin,
        )

    def check_admin(self) -> None:
        """Checks that the caller is an admin.

        Raises:
            ForbiddenError: It is not.
        """
        if not self.admin:
            raise ForbiddenError(f"The key {self.id} is no admin's.")

    def may_see(self, language: str) -> bool:
        """Tells whether there is such a language for the caller."""
        return self.languages is None or language in self.languages

    def served(self, adapters: dict[str, ServedAdapter]) -> dict[str, ServedAdapter]:
        """Returns the adapters that may act for the caller, as if the release had no others.

        Raises:
            ForbiddenError: There is none.
        """
        if self.languages is None:
            return adapters
        served = {code: adapter for code, adapter in adapters.items() if self.may_see(code)}
        if not served:
            raise ForbiddenError(
                f"The key {self.id} is for {', '.join(sorted(self.languages))}, and the release has no"
                " adapter for any of them."
            )
        return served

    def route(self, route: Route) -> Route:
        """Returns a sentence's route among the caller's languages.

        A sentence of another language is unknown there, as it were in a release without that language.

        Raises:
            BrokenArtefactError: The router knows none of them, because their indexes cannot be read.
        """
        if self.languages is None:
            return route
        ranking = tuple(pair for pair in route.ranking if self.may_see(pair[0]))
        if not ranking:
            raise BrokenArtefactError(
                f"The key {self.id} is for {', '.join(sorted(self.languages))}, and no sentence can be routed"
                " to any of them for the moment. Try again after 30 seconds."
            )
        if ranking == route.ranking:
            return route
        margin = ranking[0][1] - (ranking[1][1] if len(ranking) > 1 else 0.0)
        known = route.known and route.language == ranking[0][0]
        shares = likely_shares(ranking) if route.shares else ()
        return Route(language=ranking[0][0], ranking=ranking, margin=margin, known=known, shares=shares)


LOCAL = Caller(id="local", namespace="local", admin=True)


class Access:
    """Finds the caller of a request.

    Args:
        keys: The workspace's; None checks no keys and lets only this machine in.
    """

    def __init__(self, keys: KeyFile | None) -> None:
        self._keys = keys
        self._ring = KeyRing(())
        self.refresh()

    @property
    def has_rates(self) -> bool:
        """Whether any key has a rate, so that the number of replicas matters."""
        return self._ring.has_rates

    def refresh(self) -> None:
        """Reads the keys again; those read last stay where that fails."""
        if self._keys is None:
            return
        try:
            self._ring = KeyRing(self._keys.list())
        except (RetrieveAllError, OSError) as error:
            log.error("The API keys cannot be read, those read last stay good: %s", error)

    def caller(self, headers: dict[str, str], client_host: str) -> Caller:
        """Returns who sent a request.

        Args:
            headers: By lower-case name.
            client_host: Address of the peer, empty where it is not known.

        Raises:
            UnknownKeyError: There is no key in it, or none that is good.
            ForbiddenError: No keys are checked and it does not come from this machine.
        """
        if self._keys is None:
            return _local_caller(headers, client_host)
        scheme, _, key = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key:
            raise UnknownKeyError("The request carries no API key.")
        record = self._ring.find(key.strip())
        if record is None:
            raise UnknownKeyError("The API key is not known here, or was revoked.")
        return Caller.of(record)


def _local_caller(headers: dict[str, str], client_host: str) -> Caller:
    """Lets in what was sent from this machine to this machine.

    The Host header keeps out web pages that point a name of theirs at this machine, the forwarding
    headers what a proxy on this machine lets in.
    """
    forwarded = "x-forwarded-for" in headers or "forwarded" in headers
    if forwarded or not is_loopback(client_host) or not is_loopback(_host_name(headers.get("host", ""))):
        raise ForbiddenError(
            "This service checks no API keys, so it answers only requests from its own machine to a loopback"
            " address. Start it without --no-keys, and send a key."
        )
    return LOCAL


def is_loopback(host: str) -> bool:
    """Tells whether a name or address is this machine's own."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _host_name(header: str) -> str:
    """Returns a Host header without its port: ``[::1]:80``, ``localhost:80``, ``localhost``."""
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.rpartition(":")[0] if ":" in header else header
