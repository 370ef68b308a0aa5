"""Every error that RetrieveAll raises on purpose.

Each message says what was given, what was expected and what to do next. All are picklable, so
that they cross process borders of Ray unchanged, and each also inherits the standard class that
a caller would catch.
"""

from __future__ import annotations

from collections.abc import Iterator


class RetrieveAllError(Exception):
    """Base of all errors raised on purpose."""


class InputError(RetrieveAllError, ValueError):
    """A user's input (text, file, flag, request body) cannot be used as it is."""


class UnknownLanguageError(InputError):
    """A text names a language that the release has no adapter for; the message lists those it has."""


class LoneSurrogateError(InputError):
    """A text holds half of a surrogate pair, which no Unicode text may hold."""


class TooLargeError(InputError):
    """A text or a body is larger than the service takes."""


class CorpusFormatError(InputError):
    """A corpus file is broken; the message starts with ``file:line:``."""


class ConfigError(RetrieveAllError, ValueError):
    """Settings contradict each other or what stands in the workspace."""


class NotFoundError(RetrieveAllError, LookupError):
    """A corpus, index, adapter, release or run that was named does not exist."""


class UnknownExampleError(NotFoundError):
    """There is no such taught example in the caller's namespace."""


class IncompatibleArtefactError(RetrieveAllError, ValueError):
    """An artefact was made for another base, embedder, prompt format or format version."""


class ConflictError(RetrieveAllError, RuntimeError):
    """Somebody else changed the same thing at the same time, or it may not be replaced."""


class Overloaded(RetrieveAllError, RuntimeError):
    """The engine's queue is full: try again after the seconds named in the message."""


class MemoryLimitError(RetrieveAllError, MemoryError):
    """A row or an adapter needs more memory than the engine may take; the message has the numbers."""


class RowTooLargeError(MemoryLimitError, TooLargeError):
    """A sentence alone needs more memory than the engine may take for all rows."""


class BrokenArtefactError(RetrieveAllError, RuntimeError):
    """An adapter or index of the release cannot be read: only its language is not answered until it can."""


class RateLimited(RetrieveAllError, RuntimeError):
    """A key has used up its share: try again after the seconds named in the message."""


class UnknownKeyError(RetrieveAllError, PermissionError):
    """A request carries no API key, or none that is good."""


class ForbiddenError(RetrieveAllError, PermissionError):
    """The API key is good, but not for this."""


class DeadlineExceeded(RetrieveAllError, TimeoutError):
    """The row's deadline passed before it was decoded."""


class ServiceUnavailable(RetrieveAllError, RuntimeError):
    """A part of the service is not there for the moment: try again after the seconds in the message."""


class EngineClosed(RetrieveAllError, RuntimeError):
    """The engine was closed while rows were waiting."""


class MissingDependencyError(RetrieveAllError, ImportError):
    """An optional package is needed; the message names the install command."""


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yields an error and what caused it, the outermost first, each without the wrapping of Ray.

    Ray keeps what a worker raised as ``cause`` of an error of its own, which may look like one of ours.
    """
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        while isinstance(inner := getattr(link, "cause", None), BaseException) and id(link) not in seen:
            seen.add(id(link))
            link = inner
        seen.add(id(link))
        yield link
        link = link.__cause__


def original_error(error: BaseException) -> BaseException:
    """Returns the outermost error of ours among its causes, else the error itself, without Ray's wrapping."""
    links = list(causes(error))
    return next((link for link in links if isinstance(link, RetrieveAllError)), links[0])
