"""The retriever of an opened release: examples as each language's adapter wants them, and what priors say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from retrieveall.embedding.protocol import Vectors
from retrieveall.lora.card import AdapterCard
from retrieveall.prior import with_told
from retrieveall.prior_weights import OpenPrior, said_of
from retrieveall.retrieval import LanguageIndex, Retriever
from retrieveall.taught.layers import SeenTaught
from retrieveall.types import Examples, Shares


class ReleaseRetriever:
    """Retrieves with the n, m and λ that each language's adapter was trained with.

    A language without an index has no examples, and an adapter that was trained without any is shown none:
    they would only confuse it. What is taught to it speaks in its prior.

    Args:
        retriever: The release's indexes.
        cards: Card of each language's adapter.
        priors: The priors of languages that have one.
        examples: False finds none, and leaves what the priors say.
        untrained: Show examples also to adapters that were trained without any.
        taught: Taught examples that are also found; None for those of the release alone.
    """

    def __init__(
        self,
        retriever: Retriever,
        cards: Mapping[str, AdapterCard],
        *,
        priors: Mapping[str, OpenPrior],
        examples: bool = True,
        untrained: bool = False,
        taught: SeenTaught | None = None,
    ) -> None:
        self.retriever, self.priors = retriever, priors
        self._cards, self._taught = cards, taught
        self._examples, self._untrained = examples, untrained

    def seeing(self, taught: SeenTaught) -> ReleaseRetriever:
        """Returns a retriever over the same indexes that also finds taught examples."""
        return ReleaseRetriever(
            self.retriever,
            self._cards,
            priors=self.priors,
            examples=self._examples,
            untrained=self._untrained,
            taught=taught,
        )

    @property
    def indexes(self) -> Mapping[str, LanguageIndex]:
        """The opened indexes by language."""
        return self.retriever.indexes

    def retrieve_batch(
        self, language: str, texts: Sequence[str], embeddings: Vectors | None = None
    ) -> list[Examples]:
        """Returns the examples of each text, strongest first.

        Raises:
            ServiceUnavailable: A taught example that must be seen has not arrived here.
        """
        index = self.retriever.indexes.get(language)
        if index is None or not (self._shows(language) or self._tells(index)):
            return [Examples()] * len(texts)
        return self._find(language, index, texts, embeddings)

    def with_priors(
        self, texts: Sequence[str], shares: Sequence[Shares], found: Sequence[Examples]
    ) -> list[Examples]:
        """Returns examples with what the priors of each text's likely languages say, and taught mentions.

        A text whose chosen language has no prior goes without; one whose adapter knows no examples is left
        with what its prior says.
        """
        shown = [one if self._shows(of[0][0]) else Examples() for one, of in zip(found, shares, strict=True)]
        said = said_of(self.priors, texts, shares)
        return [
            one if prior is None else replace(one, prior=with_told(prior, text, all_found.entity))
            for text, one, all_found, prior in zip(texts, shown, found, said, strict=True)
        ]

    def _tells(self, index: LanguageIndex) -> bool:
        """Whether there may be taught mentions, which speak in the prior also where nothing is shown."""
        return self._examples and (self._taught is not None or index.folded is not None)

    def _shows(self, language: str) -> bool:
        card = self._cards.get(language)
        return self._examples and card is not None and (self._untrained or card.examples_in_training)

    def _find(
        self, language: str, index: LanguageIndex, texts: Sequence[str], embeddings: Vectors | None
    ) -> list[Examples]:
        card = self._cards[language]
        return self.retriever.retrieve_batch(
            language,
            texts,
            n=card.entity_examples,
            m=card.context_examples,
            threshold_lambda=card.threshold_std,
            embeddings=embeddings,
            layers=self._taught.stack(language, index, card.labels) if self._taught else None,
        )
