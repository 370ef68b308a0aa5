"""A taught example."""

from __future__ import annotations

from dataclasses import dataclass

from retrieveall.text.units import split_units
from retrieveall.types import GoldEntity, Sentence


@dataclass(frozen=True, kw_only=True, slots=True)
class TaughtExample:
    """What was said last of one example.

    Attributes:
        id: Made of language and text, so teaching a text again replaces it.
        seq: Number of the call that said it, counted within the namespace.
        created_at: ISO 8601 time of that call.
        deleted: It was deleted: text and entities are empty.
    """

    id: str
    language: str
    seq: int
    created_at: str
    text: str = ""
    entities: tuple[GoldEntity, ...] = ()
    deleted: bool = False

    def sentence(self) -> Sentence:
        """Returns the example as a row of the indexes takes it."""
        return Sentence(
            id=self.id,
            language=self.language,
            text=self.text,
            tokens=split_units(self.text),
            entities=self.entities,
            split="train",
        )
