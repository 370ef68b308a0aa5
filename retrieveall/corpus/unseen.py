"""Which gold mentions of a test set training never saw."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from retrieveall.text.folding import fold_text
from retrieveall.types import GoldEntity, Sentence


def unseen_mentions(
    train: Iterable[Sentence], test: Iterable[Sentence], *, citation: Mapping[str, str] | None = None
) -> dict[str, tuple[GoldEntity, ...]]:
    """Returns each test sentence's mentions whose name is no mention of train, under any label.

    Surfaces are compared after NFC, white-space and case folding. Source: own choice.

    Args:
        train: Sentences to learn from.
        test: Sentences to be scored; their ids are the keys of the answer.
        citation: Surface → citation form. Where a language inflects names, it tells a new case form
            of a known name from a new name; the sample corpus has ``citation_forms(language)``.

    Returns:
        Sentence id → its unseen mentions in order; sentences without any are left out.
    """
    forms = {_folded(form): _folded(name) for form, name in (citation or {}).items()}

    def key(sentence: Sentence, entity: GoldEntity) -> str:
        folded = _folded(sentence.text[entity.start_char : entity.end_char])
        return forms.get(folded, folded)

    seen = {key(sentence, entity) for sentence in train for entity in sentence.entities}
    unseen = {
        sentence.id: tuple(entity for entity in sentence.entities if key(sentence, entity) not in seen)
        for sentence in test
    }
    return {sentence_id: entities for sentence_id, entities in unseen.items() if entities}


def _folded(text: str) -> str:
    return fold_text(text).casefold()
