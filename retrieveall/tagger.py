"""The tagger: text in, entities out. Split → route → retrieve → prompt → engine → merge.

The stages are plain objects behind small protocols, so that the service can spread them over
deployments and still run exactly this code: `plan_documents`, `compose` and `merge` are what its
ingress calls around the same router, retriever and generator.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from retrieveall.embedding.protocol import Vectors
from retrieveall.errors import InputError, NotFoundError, UnknownLanguageError
from retrieveall.generation import Generated, GenerationTask, Generator
from retrieveall.repeats import with_repeats
from retrieveall.routing.router import Routed
from retrieveall.text.sentences import check_text, split_sentences
from retrieveall.types import Composition, Entity, Examples, Route, Shares, Span, TaggedSentence, TaggedText

MIXTURE_ADAPTERS = 2  # of a language without an adapter; LoraRetriever takes 3, two measured better


class SentenceRouter(Protocol):
    """Chooses a language for every sentence."""

    def route(self, texts: Sequence[str], *, documents: Sequence[int] | None = None) -> Routed:
        """Routes N sentences; those of one document (equal numbers) may lean on each other."""
        ...


class ExampleRetriever(Protocol):
    """Finds the examples of sentences of one language."""

    def retrieve_batch(
        self, language: str, texts: Sequence[str], embeddings: Vectors | None = None
    ) -> list[Examples]:
        """Returns the examples of each text, strongest first.

        Args:
            language: Whose index is searched.
            texts: N sentences.
            embeddings: Their vectors ``(N, D)`` where the router made them.
        """
        ...

    def with_priors(
        self, texts: Sequence[str], shares: Sequence[Shares], found: Sequence[Examples]
    ) -> list[Examples]:
        """Returns the examples of each text with what the priors say of it.

        Args:
            texts: S sentences of any languages.
            shares: The likely languages of each, the chosen first.
            found: The examples of each.
        """
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class TextInput:
    """A text to tag.

    Attributes:
        id: Passed on to the answer.
        language: Pins the adapter; None lets the router choose.
    """

    text: str
    id: str | None = None
    language: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ServedAdapter:
    """What the tagger must know of an adapter of its release."""

    language: str
    digest: str
    labels: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Composed:
    """Which adapters act on a sentence, and how."""

    composition: Composition
    adapters: tuple[tuple[str, float], ...]
    labels: tuple[str, ...]
    index_language: str
    shares: Shares


class Tagger:
    """Tags texts in any mix of the release's languages. Thread-safe where its parts are.

    Args:
        release: Number of the release that the parts were opened from; stands in every answer.
        adapters: The release's adapters by language, at least one.
        router: Chooses languages; only asked for texts that pin none.
        retriever: Finds examples; None tags with prompts without examples.
        generator: Prompts and decodes.

    Raises:
        NotFoundError: There is no adapter.
    """

    def __init__(
        self,
        *,
        release: int,
        adapters: Mapping[str, ServedAdapter],
        router: SentenceRouter,
        retriever: ExampleRetriever | None,
        generator: Generator,
    ) -> None:
        if not adapters:
            raise NotFoundError(f"Release {release} has no adapter. Train one: `retrieveall train`.")
        self.release, self.adapters = release, dict(adapters)
        self._router, self._retriever, self._generator = router, retriever, generator

    def tag(
        self, inputs: Sequence[str | TextInput], *, split: bool = True, explain: bool = False
    ) -> list[TaggedText]:
        """Tags texts together, answers in their order.

        Args:
            inputs: Texts; an empty one has an empty answer.
            split: False takes every text as one sentence (corpus rows).
            explain: Keep the retrieved examples in the answer.

        Raises:
            InputError: A text is no Unicode text or pins a language without an adapter.
            DeadlineExceeded: The engine gave up.
        """
        documents = [_as_input(item) for item in inputs]
        spans = plan_documents(documents, self.adapters, split=split)
        texts = sentence_texts(documents, spans)
        routed = route_sentences(self._router, documents, spans)
        composed = [compose(route, self.adapters) for route in routed.routes]
        examples = retrieve_examples(self._retriever, texts, composed, routed.embeddings)
        answers = self._generator.generate(
            [generation_task(t, c, e) for t, c, e in zip(texts, composed, examples, strict=True)]
        )
        return merge(documents, spans, routed.routes, composed, answers, examples if explain else None)


def sentence_texts(documents: Sequence[TextInput], spans: Sequence[Sequence[Span]]) -> list[str]:
    """Returns the sentences of all documents, in order."""
    return [
        document.text[span.start_char : span.end_char]
        for document, sentences in zip(documents, spans, strict=True)
        for span in sentences
    ]


def route_sentences(
    router: SentenceRouter, documents: Sequence[TextInput], spans: Sequence[Sequence[Span]]
) -> Routed:
    """Routes the sentences of all documents together; those of a document that pins a language take it.

    Returns:
        S routes; the router's vectors where it saw every sentence, else None.
    """
    numbers = [number for number, sentences in enumerate(spans) for _ in sentences]
    texts = sentence_texts(documents, spans)
    free = [place for place, number in enumerate(numbers) if documents[number].language is None]
    routed = router.route([texts[i] for i in free], documents=[numbers[i] for i in free]) if free else None
    by_place = dict(zip(free, routed.routes, strict=True)) if routed else {}
    routes = tuple(
        by_place[place] if place in by_place else pinned_route(documents[number].language or "")
        for place, number in enumerate(numbers)
    )
    saw_all = routed is not None and len(free) == len(numbers)
    return Routed(routes=routes, embeddings=routed.embeddings if routed and saw_all else None)


def retrieve_examples(
    retriever: ExampleRetriever | None,
    texts: Sequence[str],
    composed: Sequence[Composed],
    embeddings: Vectors | None,
) -> list[Examples]:
    """Retrieves for S sentences, one search per language; without a retriever there are no examples."""
    found = [Examples()] * len(texts)
    if retriever is None:
        return found
    by_language: dict[str, list[int]] = defaultdict(list)
    for place, item in enumerate(composed):
        by_language[item.index_language].append(place)
    for language, places in by_language.items():
        vectors = None if embeddings is None else embeddings[places]
        batch = retriever.retrieve_batch(language, [texts[i] for i in places], vectors)
        for place, examples in zip(places, batch, strict=True):
            found[place] = examples
    return retriever.with_priors(texts, [item.shares for item in composed], found)


def plan_documents(
    documents: Sequence[TextInput], adapters: Mapping[str, ServedAdapter], *, split: bool
) -> list[tuple[Span, ...]]:
    """Checks texts and pinned languages and splits each text into sentences.

    Raises:
        InputError: A text is no Unicode text or pins a language without an adapter.
    """
    for document in documents:
        check_text(document.text)
        if document.language is not None and document.language not in adapters:
            known = ", ".join(sorted(adapters))
            raise UnknownLanguageError(
                f"Language {document.language!r} was given, this release has adapters for: {known}."
                " Name one of them, or leave `language` out to have it routed."
            )
    return [split_sentences(d.text) if split else _whole(d.text) for d in documents]


def _whole(text: str) -> tuple[Span, ...]:
    stripped = text.strip()
    if not stripped:
        return ()
    start = text.index(stripped)
    return (Span(start_char=start, end_char=start + len(stripped)),)


def pinned_route(language: str) -> Route:
    """Returns the route of a sentence whose language the caller named."""
    return Route(language=language, ranking=((language, 1.0),), margin=1.0)


def compose(route: Route, adapters: Mapping[str, ServedAdapter]) -> Composed:
    """Chooses adapters for a route: the language's own, or for an unknown one a mixture of the best.

    Source: LoraRetriever (selection, mixture); the threshold behind ``route.known`` and the number of
    adapters are our own choice.

    Raises:
        NotFoundError: The ranking holds no language of the release.
    """
    ranked = [adapters[language] for language, _ in route.ranking if language in adapters]
    if not ranked:
        raise NotFoundError(
            f"The route names {[language for language, _ in route.ranking]}, this release has adapters for:"
            f" {', '.join(sorted(adapters))}. Build index and adapters for the same languages."
        )
    chosen = ranked[:1] if route.known else ranked[:MIXTURE_ADAPTERS]
    shares = tuple(pair for pair in route.shares if pair[0] in adapters)
    alone = ((chosen[0].language, 1.0),)
    return Composed(
        composition="selection" if len(chosen) == 1 else "mixture",
        adapters=tuple((adapter.digest, 1.0 / len(chosen)) for adapter in chosen),
        labels=tuple(dict.fromkeys(label for adapter in chosen for label in adapter.labels)),
        index_language=chosen[0].language,
        shares=shares if shares[:1] and shares[0][0] == chosen[0].language else alone,
    )


def generation_task(
    text: str, composed: Composed, examples: Examples, *, deadline_s: float | None = None
) -> GenerationTask:
    """Returns the generator's task for a composed sentence."""
    return GenerationTask(
        text=text,
        labels=composed.labels,
        adapters=composed.adapters,
        composition=composed.composition,
        examples=examples,
        deadline_s=deadline_s,
    )


def merge(
    documents: Sequence[TextInput],
    spans: Sequence[Sequence[Span]],
    routes: Sequence[Route],
    composed: Sequence[Composed],
    answers: Sequence[Generated],
    examples: Sequence[Examples] | None,
) -> list[TaggedText]:
    """Puts sentence answers back into their documents, with the names that a document repeats.

    Args:
        documents: N texts.
        spans: Their sentences, S in all.
        routes: S routes, in order of the sentences.
        composed: S compositions.
        answers: S answers of the generator.
        examples: S examples to keep, or None.
    """
    results = []
    at = 0
    for document, sentences in zip(documents, spans, strict=True):
        entities: list[Entity] = []
        tagged = []
        for span, found in zip(
            sentences, _found(document, sentences, answers[at : at + len(sentences)]), strict=True
        ):
            entities += [_moved(entity, span.start_char) for entity in found]
            kept = examples[at] if examples is not None else None
            tagged.append(_tagged_sentence(span, routes[at], composed[at], answers[at], kept))
            at += 1
        results.append(TaggedText(entities=tuple(entities), sentences=tuple(tagged), id=document.id))
    return results


def _found(
    document: TextInput, sentences: Sequence[Span], answers: Sequence[Generated]
) -> list[tuple[Entity, ...]]:
    """Returns the mentions of a document's sentences; one that is a single sentence repeats nothing."""
    found = [answer.entities for answer in answers]
    if len(sentences) < 2:
        return found
    return with_repeats([document.text[span.start_char : span.end_char] for span in sentences], found)


def _tagged_sentence(
    span: Span, route: Route, composed: Composed, answer: Generated, examples: Examples | None
) -> TaggedSentence:
    return TaggedSentence(
        start_char=span.start_char,
        end_char=span.end_char,
        language=route.language,
        adapter="+".join(digest for digest, _ in composed.adapters),
        composition=composed.composition,
        ranking=route.ranking,
        margin=route.margin,
        examples_dropped=answer.examples_dropped,
        tokens=answer.prompt_tokens + answer.new_tokens,
        examples=examples,
    )


def _moved(entity: Entity, offset: int) -> Entity:
    return Entity(
        start_char=entity.start_char + offset,
        end_char=entity.end_char + offset,
        label=entity.label,
        text=entity.text,
        score=entity.score,
    )


def _as_input(item: str | TextInput) -> TextInput:
    if isinstance(item, TextInput):
        return item
    if isinstance(item, str):
        return TextInput(text=item)
    raise InputError(f"A text of type {type(item).__name__} was given, expected str or TextInput.")
