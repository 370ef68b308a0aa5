"""From text to token ids, piece by piece, for any Hugging Face tokenizer.

A prompt is never one string: every unit of the text, every marker and every label is tokenised on
its own and the ids are joined. So the tokens of a mention are a run of its sentence's tokens, and
user text that spells one of our markers (``<PER>``, ``Tags:``) never gets the marker's ids where
the tokenizer has one token for it, and is never parsed anywhere: the decoder returns spans.
Source: own choice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from retrieveall.errors import ConfigError
from retrieveall.text.units import split_units, unit_borders, unit_pieces
from retrieveall.types import GoldEntity, Span

PROMPT_FORMAT = "1"
"""Version of everything in this folder; stands in every adapter's card."""

NAMES = "\nNames:"  # P_e of the paper: entity-level examples follow
EXAMPLE = "\nExample:"  # P_c: a context-level example follows
TEXT = "\nText:"  # P_t: the sentence to tag follows
TAGS = "\nTags:"  # the mentions of the sentence before it follow
MARKERS = (NAMES, EXAMPLE, TEXT, TAGS)

_CACHE_PIECES = 200_000


def label_marker(label: str) -> str:
    """Returns the text that closes a mention and names its label, such as ``<PER>``."""
    return f"<{label}>"


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedText:
    """A text as units and their token ids.

    Attributes:
        units: U character ranges.
        unit_ids: U non-empty tuples of token ids, one per unit.
    """

    units: tuple[Span, ...]
    unit_ids: tuple[tuple[int, ...], ...]

    @property
    def ids(self) -> list[int]:
        """All token ids of the text in order."""
        return [token for unit in self.unit_ids for token in unit]

    def unit_range(self, start_char: int, end_char: int) -> tuple[int, int] | None:
        """Returns the half-open unit range of a character range, None where no unit border fits."""
        starts, ends = unit_borders(self.units)
        first, last = starts.get(start_char), ends.get(end_char)
        return (first, last) if first is not None and last is not None and first < last else None


class PromptCodec:
    """Encodes pieces of prompts with one tokenizer, with a cache. Safe to share between threads.

    Args:
        tokenizer: Any Hugging Face tokenizer with an end-of-sequence token.

    Raises:
        ConfigError: The tokenizer has no end-of-sequence token.
    """

    def __init__(self, tokenizer: Any) -> None:
        if tokenizer.eos_token_id is None:
            raise ConfigError(
                f"The tokenizer {tokenizer.name_or_path!r} has no end-of-sequence token, which ends every"
                " tag line. Set `eos_token` in its tokenizer_config.json."
            )
        self._tokenizer = tokenizer
        self._cache: dict[str, tuple[int, ...]] = {}
        self.end_id: int = tokenizer.eos_token_id
        bos = tokenizer.bos_token_id
        self.start_ids: tuple[int, ...] = () if bos is None or bos == self.end_id else (bos,)

    def pieces(self, pieces: Iterable[str]) -> tuple[tuple[int, ...], ...]:
        """Encodes each string on its own; a string the tokenizer drops becomes U+FFFD."""
        return tuple(self.piece(piece) for piece in pieces)

    def piece(self, piece: str) -> tuple[int, ...]:
        """Encodes one string: a unit with its leading space, a marker, or a label marker."""
        ids = self._cache.get(piece)
        if ids is None:
            ids = self._encode(piece) or self._encode("\ufffd")
            if len(self._cache) >= _CACHE_PIECES:
                self._cache.clear()
            self._cache[piece] = ids
        return ids

    def _encode(self, piece: str) -> tuple[int, ...]:
        return tuple(self._tokenizer(piece, add_special_tokens=False)["input_ids"])

    def spelling(self, ids: Sequence[int]) -> str:
        """Decodes token ids, such as a unit's, to the text they spell."""
        spelled: str = self._tokenizer.decode(list(ids), clean_up_tokenization_spaces=False)
        return spelled

    def text(self, text: str) -> EncodedText:
        """Splits a text into units and encodes each."""
        units = split_units(text)
        return EncodedText(units=units, unit_ids=self.pieces(unit_pieces(text, units)))

    def label(self, label: str) -> tuple[int, ...]:
        """Encodes a label's marker."""
        return self.piece(label_marker(label))

    def tags(self, encoded: EncodedText, entities: Sequence[GoldEntity]) -> list[int]:
        """Encodes the tag line of a text, without its end token: mention, marker, mention, marker ….

        Entities whose borders fall inside a unit are left out: the format cannot express them, and
        `corpus audit` counts them.
        """
        ids: list[int] = []
        for entity in entities:
            found = encoded.unit_range(entity.start_char, entity.end_char)
            if found is not None:
                ids += [token for unit in encoded.unit_ids[found[0] : found[1]] for token in unit]
                ids += self.label(entity.label)
        return ids
