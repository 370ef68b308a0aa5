"""Layers over an index: what lies over wins, the rest is as in one index."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from retrieveall.embedding.protocol import Vectors
from retrieveall.retrieval.in_memory import RememberingEmbedder, index_in_memory
from retrieveall.retrieval.layers import Layer, layered_examples
from retrieveall.types import Examples
from tests.indexes import SMALL, in_memory, training

CORPUS = training(
    "[Anna Berg](PER) lives in [New York](LOC) .",
    "[Oslo](LOC) beat [Washington](ORG) yesterday .",
    "[Washington](ORG) won again .",
    "She may stay in [Oslo](LOC) .",
    "The [New York Times](ORG) wrote about it .",
    "Nobody was there .",
)
OVER = training(
    "[Zorblax](ORG) hired [Mira Quill](PER) .",
    "They left [Trondheim](LOC) early .",
    "The weather in [Bergen](LOC) is wet .",
)
TEXTS = [
    "Zorblax opened in Oslo .",
    "Anna Berg met Mira Quil in Trondheim",
    "Nobody was there .",
    "Bergen and Washington and the New York Times",
    "",
]


def examples(
    layers: list[Layer], *texts: str, m: int = 4, exclude: list[str | None] | None = None
) -> list[Examples]:
    return layered_examples(layers, texts, n=16, m=m, threshold_lambda=-9.0, exclude=exclude)


def mentions(found: Examples) -> list[tuple[str, str]]:
    return [(example.mention, example.label) for example in found.entity]


@pytest.mark.parametrize("threshold", [-9.0, 0.0, 1.0])
def test_layers_that_say_nothing_of_the_same_are_searched_as_one_index(threshold: float) -> None:
    layers = [Layer(index=in_memory(OVER), taught=False), Layer(index=in_memory(CORPUS))]
    together = in_memory([*OVER, *CORPUS])
    found = layered_examples(layers, TEXTS, n=16, m=8, threshold_lambda=threshold)
    expected = together.examples(TEXTS, n=16, m=8, threshold_lambda=threshold)

    for one, other in zip(found, expected, strict=True):
        assert [(c.text, c.similarity) for c in one.context] == [
            (c.text, c.similarity) for c in other.context
        ]
        assert {(e.mention, e.label, e.similarity) for e in one.entity} == {
            (e.mention, e.label, e.similarity) for e in other.entity
        }


def test_one_layer_is_the_index_itself() -> None:
    index = in_memory(CORPUS)
    assert examples([Layer(index=index)], *TEXTS) == index.examples(TEXTS, n=16, m=4, threshold_lambda=-9.0)


def test_a_taught_label_stands_alone_for_its_surface_and_is_marked() -> None:
    over = in_memory(training("[Washington](PER) crossed the river ."))
    found = examples(
        [Layer(index=over, taught=True), Layer(index=in_memory(CORPUS))], "Washington bombarded Oslo ."
    )[0]

    assert mentions(found)[:2] == [("Washington", "PER"), ("Oslo", "LOC")]
    assert ("Washington", "ORG") not in mentions(found)
    assert [example.taught for example in found.entity[:2]] == [True, False]


def test_a_longer_match_below_hides_a_shorter_one_above() -> None:
    over = in_memory(training("[New York](ORG) played well ."))
    layers = [Layer(index=over, taught=True), Layer(index=in_memory(CORPUS))]

    assert ("New York", "ORG") not in mentions(examples(layers, "read the New York Times")[0])
    assert mentions(examples(layers, "in New York")[0])[0] == ("New York", "ORG")


def test_of_equal_sentences_the_strongest_layers_is_shown() -> None:
    text = "[Oslo](ORG) beat [Washington](LOC) yesterday ."
    over = Layer(index=in_memory(training(text)), taught=True)
    found = examples([over, Layer(index=in_memory(CORPUS))], "Oslo  beat Washington yesterday.")[0]

    same = [c for c in found.context if c.text == "Oslo beat Washington yesterday ."]
    assert [(c.taught, c.entities[0].label) for c in same] == [(True, "ORG")]


def test_hidden_rows_neither_stand_in_an_answer_nor_hide_others() -> None:
    over = in_memory(training("[Washington](PER) won again .", "[Bergen](ORG) won ."))
    layers = [Layer(index=over, hidden=np.array([0]), taught=True), Layer(index=in_memory(CORPUS))]
    found = examples(layers, "Washington won again .")[0]

    assert ("Washington", "ORG") in mentions(found) and ("Washington", "PER") not in mentions(found)
    assert [c.taught for c in found.context if c.text == "Washington won again ."] == [False]


def test_a_sentence_can_be_left_out_of_every_layer() -> None:
    over = in_memory(training("[Oslo](ORG) beat [Washington](LOC) yesterday ."))
    text = CORPUS[1].text
    found = examples([Layer(index=over, taught=True), Layer(index=in_memory(CORPUS))], text, exclude=[text])[
        0
    ]

    assert text not in [c.text for c in found.context]
    assert ("Oslo", "ORG") not in mentions(found) and ("Oslo", "LOC") in mentions(found)


def test_an_index_in_memory_equals_the_one_of_files_and_embeds_nothing_twice() -> None:
    asked: list[str] = []

    class Counting:
        name, dimensions, digest, contextual = SMALL.name, SMALL.dimensions, SMALL.digest, SMALL.contextual
        embed_mentions = SMALL.embed_mentions

        def embed_texts(self, texts: Sequence[str]) -> Vectors:
            asked.extend(texts)
            return SMALL.embed_texts(texts)

    remembering = RememberingEmbedder(Counting())
    index_in_memory(CORPUS[:5], remembering)
    asked.clear()
    grown = index_in_memory(CORPUS, remembering)

    assert asked == [CORPUS[5].text]
    found, expected = (
        i.examples(TEXTS, n=16, m=8, threshold_lambda=-9.0) for i in (grown, in_memory(CORPUS))
    )
    assert found == expected
