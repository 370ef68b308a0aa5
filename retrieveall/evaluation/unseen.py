"""What of a test set also stands in training, and scores on the rest.

Every claim about examples or routing is made on unseen text: 3 to 16 % of
PAN-X test sentences stand in train word for word.

Unseen sentence: its text, after NFC and white-space folding, is not the text of a train sentence.
Unseen name: a gold mention whose surface, folded likewise and case-folded, is the surface of no
train mention of any label (so ``AMSTERDAM`` is seen when ``Amsterdam`` was). Where a table of
citation forms is given, case forms of one name are one name. Source: own choice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt

from retrieveall.evaluation.strict import Mention, Predictions, check_paired
from retrieveall.text.folding import fold_text
from retrieveall.types import Sentence


@dataclass(frozen=True, kw_only=True, slots=True)
class SeenInTraining:
    """The sentences and names of a training set, folded.

    Attributes:
        texts: Folded texts of the train sentences.
        names: Folded, case-folded surfaces (citation forms where known) of the train mentions.
        citation: Folded surface to folded citation form.
    """

    texts: frozenset[str]
    names: frozenset[str]
    citation: Mapping[str, str]

    @classmethod
    def of(cls, train: Iterable[Sentence], *, citation: Mapping[str, str] | None = None) -> Self:
        """Collects texts and names.

        Args:
            train: The train split, read once: it may be a stream.
            citation: Surface to citation form, for languages that inflect names; without it a new
                case form of a known name counts as a new name.
        """
        forms = {_folded_name(form): _folded_name(name) for form, name in (citation or {}).items()}
        texts: set[str] = set()
        surfaces: set[str] = set()
        for sentence in train:
            texts.add(fold_text(sentence.text))
            surfaces.update(_surface(sentence, mention) for mention in sentence.entities)
        names = frozenset(forms.get(surface, surface) for surface in surfaces)
        return cls(texts=frozenset(texts), names=names, citation=forms)

    def holds_sentence(self, sentence: Sentence) -> bool:
        """True when this sentence's text stands in train."""
        return fold_text(sentence.text) in self.texts

    def holds_name(self, sentence: Sentence, mention: Mention) -> bool:
        """True when this mention's surface is a train mention."""
        surface = _surface(sentence, mention)
        return self.citation.get(surface, surface) in self.names


def unseen_mask(gold: Sequence[Sentence], seen: SeenInTraining) -> npt.NDArray[np.bool_]:
    """Returns ``(S,)`` True where the sentence does not stand in train."""
    return np.array([not seen.holds_sentence(sentence) for sentence in gold], dtype=np.bool_)


def restrict_to_unseen_names(
    gold: Sequence[Sentence], predicted: Predictions, seen: SeenInTraining
) -> tuple[list[Sentence], list[list[Mention]]]:
    """Leaves what can be scored on unseen names alone.

    Gold keeps its mentions with unseen surfaces. Predictions that share a character with a gold
    mention of a *seen* surface are dropped, right or wrong: they answer for that one. All other
    predictions stay, also those that touch no gold mention at all, in every sentence: a name that
    was made up counts against the tagger here as in the main metric.

    Args:
        gold: S sentences.
        predicted: S lists of mentions.
        seen: What training held.

    Returns:
        S sentences and S lists, to be scored as usual.

    Raises:
        InputError: The two lengths differ.
    """
    check_paired(gold, predicted)
    kept_gold, kept_predicted = [], []
    for sentence, mentions in zip(gold, predicted, strict=True):
        known = [mention for mention in sentence.entities if seen.holds_name(sentence, mention)]
        unknown = tuple(mention for mention in sentence.entities if mention not in known)
        kept_gold.append(replace(sentence, entities=unknown))
        kept_predicted.append([m for m in mentions if not any(overlap(m, k) for k in known)])
    return kept_gold, kept_predicted


def overlap(one: Mention, other: Mention) -> int:
    """Returns how many characters two mentions of one text share."""
    return max(0, min(one.end_char, other.end_char) - max(one.start_char, other.start_char))


def _surface(sentence: Sentence, mention: Mention) -> str:
    return _folded_name(sentence.text[mention.start_char : mention.end_char])


def _folded_name(name: str) -> str:
    return fold_text(name).casefold()
