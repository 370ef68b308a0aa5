"""spaCy's `ner` pipe trained from scratch: its default hash-embedded CNN and transition parser, no vectors.

Documents are made of the corpus's tokens, so spaCy's tokenisers play no part. The epoch with the best strict
F1 on dev is kept.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import spacy
from bio import Tagged, mention, strict_f1, token_ranges, words
from spacy.tokens import Doc, Span
from spacy.training import Example
from spacy.util import compounding, fix_random_seed, minibatch

from retrieveall.types import GoldEntity, Sentence


class SpacyRival:
    """One blank pipeline.

    Args:
        seed: Of weights and order.
        epochs: Most passes.
        patience: Passes without a better dev F1 after which training stops.
    """

    def __init__(self, *, seed: int, epochs: int = 30, patience: int = 4) -> None:
        self._seed, self._epochs, self._patience = seed, epochs, patience
        self._nlp = spacy.blank("xx")

    def train(self, train: Sequence[Sentence], dev: Sequence[Sentence]) -> None:
        """Trains with dropout 0.1 and batches that grow from 16 to 64 documents."""
        fix_random_seed(self._seed)
        self._nlp.add_pipe("ner")
        examples = [Example(self._doc(one), self._doc(one, gold=True)) for one in train]
        optimiser = self._nlp.initialize(lambda: examples)
        rng = random.Random(self._seed)
        best, best_f1, without_gain = self._nlp.to_bytes(), -1.0, 0
        for _ in range(self._epochs):
            rng.shuffle(examples)
            for batch in minibatch(examples, size=compounding(16.0, 64.0, 1.001)):
                self._nlp.update(batch, sgd=optimiser, drop=0.1)
            f1 = strict_f1(self, dev)
            if f1 > best_f1:
                best, best_f1, without_gain = self._nlp.to_bytes(), f1, 0
            else:
                without_gain += 1
            if without_gain >= self._patience:
                break
        self._nlp.from_bytes(best)

    def tag(self, sentences: Sequence[Sentence]) -> Tagged:
        """Tags documents in spaCy's own batches."""
        docs = self._nlp.pipe(self._doc(one) for one in sentences)
        return [_mentions(one, doc) for one, doc in zip(sentences, docs, strict=True)]

    def _doc(self, sentence: Sentence, *, gold: bool = False) -> Doc:
        ends = [*(token.start_char for token in sentence.tokens[1:]), len(sentence.text)]
        spaces = [token.end_char < after for token, after in zip(sentence.tokens, ends, strict=True)]
        doc = Doc(self._nlp.vocab, words=words(sentence), spaces=spaces)
        if gold:
            doc.ents = [Span(doc, first, end, label=label) for first, end, label in token_ranges(sentence)]
        return doc


def _mentions(sentence: Sentence, doc: Doc) -> list[GoldEntity]:
    return [mention(sentence, entity.start, entity.end, entity.label_) for entity in doc.ents]
