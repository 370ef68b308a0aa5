from __future__ import annotations

from pathlib import Path

import pytest

from retrieveall.errors import ConflictError, InputError, ServiceUnavailable, UnknownExampleError
from retrieveall.storage import Store
from retrieveall.taught import book as book_module
from retrieveall.taught.book import TaughtBook
from retrieveall.taught.checking import check_examples
from retrieveall.taught.log import TaughtLog
from retrieveall.types import Sentence

NOW = "2026-01-01T00:00:00+00:00"


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log(tmp_path: Path) -> TaughtLog:
    return TaughtLog(store=Store.open(tmp_path))


@pytest.fixture
def book(log: TaughtLog, clock: Clock) -> TaughtBook:
    return TaughtBook(log, clock=clock)


def lesson(*texts: str, label: str = "PER", language: str = "de") -> list[Sentence]:
    """Sentences whose first word is a name."""
    records = [
        {
            "text": text,
            "language": language,
            "entities": [{"start_char": 0, "end_char": len(text.split()[0]), "label": label}],
        }
        for text in texts
    ]
    return check_examples(records, {"de": ("PER", "LOC"), "en": ("PER",)}, ("de", "en"))


def test_examples_are_added_once_replaced_and_deleted(book: TaughtBook, log: TaughtLog) -> None:
    first = book.teach("me", lesson("Anna geht .", "Bo geht ."), created_at=NOW)
    again = book.teach("me", lesson("Anna  geht.", "Cy geht ."), created_at=NOW)
    known = book.teach("me", lesson("Cy geht ."), created_at=NOW)
    anna = lesson("Anna geht .")[0].id
    other = book.teach("me", lesson("Anna geht .", label="LOC"), created_at=NOW)

    assert list(first.statuses.values()) == ["added", "added"]
    assert list(again.statuses.values()) == ["replaced", "added"]  # other white space, so other offsets
    assert (known.seq, list(known.statuses.values())) == (2, ["known"])
    assert (other.seq, other.statuses) == (3, {anna: "replaced"})
    assert {row.text for row in book.state("me").examples()} == {"Anna geht .", "Bo geht .", "Cy geht ."}
    assert book.state("me").last[anna].entities[0].label == "LOC"

    assert book.forget("me", [anna], created_at=NOW) == 4
    assert anna not in {row.id for row in book.state("me").examples()}
    assert TaughtBook(log).state("me").last == book.state("me").last
    assert book.forget("me", [anna], created_at=NOW) == 4  # once is enough
    for gone in ("0" * 16, "../x"):
        with pytest.raises(UnknownExampleError):
            book.forget("me", [gone], created_at=NOW)
    assert book.teach("me", lesson("Anna geht ."), created_at=NOW).statuses == {anna: "added"}


def test_namespaces_and_languages_are_apart(book: TaughtBook) -> None:
    book.teach("me", lesson("Anna geht ."), created_at=NOW)
    book.teach("me", lesson("Anna went .", language="en"), created_at=NOW)

    assert book.state("you").examples() == []
    assert [row.text for row in book.state("me").examples("en")] == ["Anna went ."]


def test_others_calls_are_seen_within_a_second_or_when_they_must_be(
    log: TaughtLog, book: TaughtBook, clock: Clock
) -> None:
    other = TaughtBook(log)
    assert book.state("me").seq == 0
    other.teach("me", lesson("Anna geht ."), created_at=NOW)

    clock.now_s = 0.5
    assert book.state("me").seq == 0
    assert book.state("me", at_least=1).seq == 1
    other.teach("me", lesson("Bo geht ."), created_at=NOW)
    assert book.state("me").seq == 1
    clock.now_s = 2.0
    assert book.state("me").seq == 2
    with pytest.raises(ServiceUnavailable, match="after 1 second"):
        book.state("me", at_least=3)


def test_a_broken_file_keeps_nobody_from_an_answer(log: TaughtLog, book: TaughtBook, clock: Clock) -> None:
    book.teach("me", lesson("Anna geht ."), created_at=NOW)
    log.store.write_bytes("me/00000002.arrow", b"broken")
    log.store.write_bytes("you/00000001.arrow", b"broken")
    clock.now_s = 5.0

    assert [row.text for row in book.state("me").examples()] == ["Anna geht ."]
    assert book.state("you").examples() == []
    with pytest.raises(InputError, match="cannot be read"):
        book.teach("me", lesson("Bo geht ."), created_at=NOW)
    with pytest.raises(ServiceUnavailable):
        book.state("me", at_least=2)


def test_a_namespace_takes_so_many_examples_of_a_language(
    book: TaughtBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(book_module, "MAX_EXAMPLES", 2)
    book.teach("me", lesson("Anna geht .", "Bo geht ."), created_at=NOW)
    book.teach("me", lesson("Anna went .", language="en"), created_at=NOW)

    with pytest.raises(ConflictError, match="index compact"):
        book.teach("me", lesson("Cy geht ."), created_at=NOW)
    assert book.teach("me", lesson("Bo geht .", label="LOC"), created_at=NOW).seq == 3  # one that is there
    assert book.teach("me", lesson("Cy geht ."), created_at=NOW, folded={"de": 2}).seq == 4
