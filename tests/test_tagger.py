"""Text in, entities out: offsets, coverage, routes and compositions, with an echo engine behind."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieveall.embedding.protocol import Vectors
from retrieveall.engine.echo import EchoEngine
from retrieveall.errors import InputError, NotFoundError
from retrieveall.generation import Generator
from retrieveall.prompting.codec import PromptCodec
from retrieveall.routing import Routed
from retrieveall.tagger import (
    ServedAdapter,
    Tagger,
    TextInput,
    compose,
    pinned_route,
    plan_documents,
    retrieve_examples,
    route_sentences,
)
from retrieveall.types import EntityExample, Examples, Route, Shares, TaggedText
from tests.models import tiny_tokenizer

CODEC = PromptCodec(tiny_tokenizer())
ADAPTERS = {
    code: ServedAdapter(language=code, digest=f"{code}-digest", labels=labels)
    for code, labels in {
        "de": ("PER", "LOC"),
        "en": ("PER", "ORG"),
        "ja": ("PER", "LOC", "WORK"),
        "ru": ("RIVER",),
    }.items()
}
PARTS = [
    *("Anna", "Bo", "ging", ".", "!", "\n", "\r\n", "\t", " ", "  ", "東京。", "กรุงเทพ", "Dr. Who"),
    *("<PER>", "<LOC>", "Tags:", "\nTags:", "\nText:", "\nNames:", "<|end|>"),
    *(
        "👩‍👩‍👧",
        "🇩🇪",
        "e\u0301",
        "\u0301",
        "\u200b",
        "\ufeff",
        "\u202e",
        "\x00",
        "\x1c",
        "\x85",
        "שלום",
        "القاهرة",
    ),
]
TEXTS = st.text(st.characters(codec="utf-8"), max_size=40) | st.lists(st.sampled_from(PARTS)).map("".join)


class FixedRouter:
    """Routes by the first letter: `d…` to de, others to en; `?…` is unknown."""

    def __init__(self) -> None:
        self.calls: list[tuple[list[str], list[int]]] = []

    def route(self, texts: Sequence[str], *, documents: Sequence[int] | None = None) -> Routed:
        self.calls.append((list(texts), list(documents or ())))
        embeddings = np.array([[len(text), 1.0] for text in texts], np.float32)
        return Routed(routes=tuple(map(self._route, texts)), embeddings=embeddings)

    def _route(self, text: str) -> Route:
        first, second = ("de", "en") if text.startswith("d") else ("en", "de")
        ranking = ((first, 0.6), (second, 0.3), ("ja", 0.1), ("ru", 0.0))
        return Route(language=first, ranking=ranking, margin=0.3, known=not text.startswith("?"))


class NamingRetriever:
    """Finds one example for each text: the text itself, labelled by the language asked for."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[str], Vectors | None]] = []

    def retrieve_batch(
        self, language: str, texts: Sequence[str], embeddings: Vectors | None = None
    ) -> list[Examples]:
        self.calls.append((language, list(texts), embeddings))
        return [Examples(entity=(EntityExample(mention=text, label=language),)) for text in texts]

    def with_priors(
        self, texts: Sequence[str], shares: Sequence[Shares], found: Sequence[Examples]
    ) -> list[Examples]:
        return list(found)


@pytest.fixture(scope="module")
def generator() -> Iterator[Generator]:
    engine = EchoEngine(CODEC)
    yield Generator(engine, CODEC)
    engine.close()


def make_tagger(generator: Generator, retriever: NamingRetriever | None = None) -> Tagger:
    return Tagger(
        release=7, adapters=ADAPTERS, router=FixedRouter(), retriever=retriever, generator=generator
    )


@pytest.fixture
def tagger(generator: Generator) -> Tagger:
    return make_tagger(generator, NamingRetriever())


def surfaces(answer: TaggedText) -> list[tuple[int, str]]:
    return [(entity.start_char, entity.text) for entity in answer.entities]


def check_covered(text: str, answer: TaggedText) -> None:
    end = 0
    for sentence in answer.sentences:
        assert end <= sentence.start_char < sentence.end_char
        assert not text[end : sentence.start_char].strip()
        end = sentence.end_char
    assert not text[end:].strip()


def check(text: str, answer: TaggedText) -> None:
    """What must hold of every answer."""
    check_covered(text, answer)
    ends = 0
    for entity in answer.entities:
        assert ends <= entity.start_char < entity.end_char <= len(text)
        assert entity.text == text[entity.start_char : entity.end_char]
        assert 0.0 <= entity.score <= 1.0
        assert any(
            s.start_char <= entity.start_char and entity.end_char <= s.end_char for s in answer.sentences
        )
        ends = entity.end_char


@settings(max_examples=60)
@given(texts=st.lists(TEXTS, max_size=4), split=st.booleans())
def test_offsets_are_right_and_sentences_cover_the_text(
    generator: Generator, texts: list[str], split: bool
) -> None:
    answers = make_tagger(generator).tag(texts, split=split)

    assert len(answers) == len(texts)
    for text, answer in zip(texts, answers, strict=True):
        check(text, answer)
        assert split or len(answer.sentences) <= 1


@pytest.mark.parametrize("text", ["", " ", "\n\t\u3000", "\r\n"])
def test_empty_text_has_an_empty_answer(tagger: Tagger, text: str) -> None:
    assert tagger.tag([text]) == [TaggedText(entities=(), sentences=())]


def test_no_text_has_no_answer(tagger: Tagger) -> None:
    assert tagger.tag([]) == []


def test_repeated_mentions_get_their_own_offsets(tagger: Tagger) -> None:
    text = "Anna saw Anna. Anna was there, and Anna Bo."
    (answer,) = tagger.tag([text])

    assert surfaces(answer) == [(0, "Anna"), (9, "Anna"), (15, "Anna"), (35, "Anna Bo")]
    assert len(answer.sentences) == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<PER> Anna <LOC> sang <|end|> .", [(1, "PER"), (6, "Anna"), (12, "LOC")]),
        ("\nTags: Anna<PER>\nText: Bo\n", [(1, "Tags"), (7, "Anna"), (12, "PER"), (17, "Text"), (23, "Bo")]),
        ("👩‍👩‍👧 saw Zoe\u0301 and E\u0301va 🇩🇪", [(10, "Zoe\u0301"), (19, "E\u0301va")]),
        ("ראה Anna את Bo", [(4, "Anna"), (12, "Bo")]),
        ("a\x00 Anna \x1b[31m Bo\x07", [(3, "Anna"), (14, "Bo")]),
    ],
    ids=["labels", "markers", "emoji and marks", "right to left", "control characters"],
)
def test_odd_text_is_tagged_where_it_stands(
    tagger: Tagger, text: str, expected: list[tuple[int, str]]
) -> None:
    (answer,) = tagger.tag([text], split=False)

    check(text, answer)
    assert surfaces(answer) == expected


@pytest.mark.parametrize("text", ["\ud800", "Anna \udfff sang", "ok \ud83d"])
def test_a_lone_surrogate_is_refused(tagger: Tagger, text: str) -> None:
    with pytest.raises(
        InputError, match=rf"Character {text.find(max(text))} of the text is a lone surrogate"
    ):
        tagger.tag(["fine", text])


def test_other_types_than_text_are_refused(tagger: Tagger) -> None:
    with pytest.raises(InputError, match="type bytes was given"):
        tagger.tag([b"Anna"])  # type: ignore[list-item]


def test_a_megabyte_of_prose_is_tagged_in_bounded_time(generator: Generator) -> None:
    text = ("Anna sang for Bo in the long street, " * 27_000).strip() + "."
    started_s = time.process_time()
    (answer,) = make_tagger(generator).tag([text])
    seconds = time.process_time() - started_s

    check_covered(text, answer)
    assert len(answer.entities) == 2 * 27_000
    assert seconds < 90


def test_a_document_is_routed_as_one_and_a_pin_keeps_it_from_the_router() -> None:
    router = FixedRouter()
    documents = [
        TextInput(text="die Anna. das Bo."),
        TextInput(text="Bo."),
        TextInput(text="x", language="ja"),
    ]
    spans = plan_documents(documents, ADAPTERS, split=True)
    routed = route_sentences(router, documents, spans)

    assert router.calls == [(["die Anna.", "das Bo.", "Bo."], [0, 0, 1])]
    assert [route.language for route in routed.routes] == ["de", "de", "en", "ja"]
    assert routed.routes[3] == pinned_route("ja")
    assert routed.embeddings is None  # the router did not see every sentence


def test_the_vectors_of_the_router_are_handed_on(generator: Generator) -> None:
    retriever = NamingRetriever()
    make_tagger(generator, retriever).tag(["eins", "dd", "zwei a", "d"])

    (first, english, vectors), (second, german, others) = retriever.calls
    assert (first, english, second, german) == ("en", ["eins", "zwei a"], "de", ["dd", "d"])
    assert vectors is not None and vectors[:, 0].tolist() == [4, 6]
    assert others is not None and others[:, 0].tolist() == [2, 1]


def test_all_texts_pinned_ask_no_router(generator: Generator) -> None:
    router = FixedRouter()
    tagger = Tagger(release=1, adapters=ADAPTERS, router=router, retriever=None, generator=generator)
    (answer,) = tagger.tag([TextInput(text="Anna sang.", language="ru", id="x")])

    assert router.calls == []
    assert answer.id == "x"
    assert answer.sentences[0].ranking == (("ru", 1.0),)
    assert [entity.label for entity in answer.entities] == ["RIVER"]


def test_examples_are_searched_in_the_language_of_the_adapter(tagger: Tagger) -> None:
    (answer,) = tagger.tag(["dort sang Anna. Bo went."], explain=True)

    shown = [sentence.examples.entity[0] for sentence in answer.sentences if sentence.examples]
    assert [(example.mention, example.label) for example in shown] == [
        ("dort sang Anna.", "de"),
        ("Bo went.", "en"),
    ]
    assert tagger.tag(["dort"])[0].sentences[0].examples is None


def test_without_a_retriever_there_are_no_examples() -> None:
    composed = [compose(pinned_route("de"), ADAPTERS)] * 2
    assert retrieve_examples(None, ["a", "b"], composed, None) == [Examples(), Examples()]


def test_a_known_route_takes_the_adapter_of_its_language(tagger: Tagger) -> None:
    (answer,) = tagger.tag(["dort sang Anna"])
    (sentence,) = answer.sentences

    assert (sentence.language, sentence.adapter, sentence.composition) == ("de", "de-digest", "selection")
    assert (sentence.margin, sentence.ranking[0]) == (0.3, ("de", 0.6))


def test_an_unknown_language_gets_the_mixture_of_two_with_all_their_labels(tagger: Tagger) -> None:
    route = Route(
        language="en", ranking=(("en", 0.4), ("xx", 0.3), ("ja", 0.2), ("de", 0.1)), margin=0.1, known=False
    )
    composed = compose(route, ADAPTERS)

    assert composed.composition == "mixture"
    assert [digest for digest, _ in composed.adapters] == ["en-digest", "ja-digest"]
    assert sum(weight for _, weight in composed.adapters) == pytest.approx(1.0)
    assert composed.labels == ("PER", "ORG", "LOC", "WORK")
    assert composed.index_language == "en"
    (answer,) = tagger.tag(["? Anna"])
    assert answer.sentences[0].composition == "mixture"
    assert answer.sentences[0].adapter == "en-digest+de-digest"


def test_a_mixture_of_one_is_a_selection() -> None:
    route = Route(language="de", ranking=(("de", 0.0),), margin=0.0, known=False)
    assert compose(route, {"de": ADAPTERS["de"]}).composition == "selection"


def test_a_route_to_languages_without_adapters_is_an_error() -> None:
    route = Route(language="xx", ranking=(("xx", 1.0),), margin=1.0)
    with pytest.raises(NotFoundError, match=r"\['xx'\].*de, en, ja, ru"):
        compose(route, ADAPTERS)


def test_a_pinned_language_without_an_adapter_is_refused_with_those_there_are(tagger: Tagger) -> None:
    with pytest.raises(InputError, match=r"'nl' was given.*adapters for: de, en, ja, ru"):
        tagger.tag([TextInput(text="Anna", language="nl")])


def test_a_release_without_adapters_has_no_tagger(generator: Generator) -> None:
    with pytest.raises(NotFoundError, match="Release 3 has no adapter"):
        Tagger(release=3, adapters={}, router=FixedRouter(), retriever=None, generator=generator)


def test_a_small_queue_holds_a_long_text_back_and_loses_nothing() -> None:
    engine = EchoEngine(CODEC, max_waiting_rows=2, max_batch_rows=2)
    text = " ".join(f"So N{index} sang." for index in range(60))
    (answer,) = make_tagger(Generator(engine, CODEC)).tag([text])
    engine.close()

    check(text, answer)
    assert [entity.text for entity in answer.entities] == [f"So N{index}" for index in range(60)]
