from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieveall.embedding import NgramEmbedder
from retrieveall.errors import IncompatibleArtefactError, InputError, NotFoundError
from retrieveall.retrieval import (
    IndexOptions,
    LanguageIndex,
    Retriever,
    TrainingNeighbours,
    list_indexes,
    read_manifest,
    write_index,
)
from retrieveall.storage import Store
from retrieveall.types import Examples, GoldEntity, Sentence
from tests.indexes import SMALL, in_memory, request, training, written

CORPUS = training(
    "[Anna Berg](PER) lives in [New York](LOC) .",
    "The [New York Times](ORG) wrote about [Oslo](LOC) .",
    "[Oslo](LOC) beat [Washington](ORG) yesterday .",
    "[Washington](PER) crossed the river .",
    "[Washington](LOC) is a city .",
    "I may go home .",
    "You may go too .",
    "She may stay in [Oslo](LOC) .",
    "[May](PER) may go .",
    "They may have met [Anna Bergman](PER) .",
    *(
        "may we go ?",
        "we may not .",
        "who may ?",
        "it may rain .",
        "he may win .",
        "may it be .",
        "one may .",
    ),
)


def mentions(examples: Examples) -> list[tuple[str, str]]:
    return [(example.mention, example.label) for example in examples.entity]


@pytest.fixture(scope="module")
def index() -> LanguageIndex:
    return in_memory(CORPUS)


def find(index: LanguageIndex, text: str, exclude: str | None = None, n: int = 8) -> Examples:
    return Retriever({"en": index}).retrieve(
        "en", text, n=n, m=4, threshold_lambda=-9.0, exclude_text=exclude
    )


def test_longest_exact_matches_come_first_and_hide_what_lies_inside(index: LanguageIndex) -> None:
    found = mentions(find(index, "Read the New York Times in Oslo"))
    assert found[:2] == [("New York Times", "ORG"), ("Oslo", "LOC")]
    assert ("New York", "LOC") not in found[:2]


def test_labels_that_disagree_stand_side_by_side(index: LanguageIndex) -> None:
    found = mentions(find(index, "Washington won"))
    assert {label for mention, label in found[:3] if mention == "Washington"} == {"ORG", "PER", "LOC"}


def test_a_surface_that_is_hardly_ever_a_name_is_not_shown(index: LanguageIndex) -> None:
    assert ("May", "PER") not in [
        (e.mention, e.label) for e in find(index, "we may leave").entity if e.similarity > 0.9
    ]


def test_near_spellings_are_found_by_vector(index: LanguageIndex) -> None:
    assert mentions(find(index, "They saw Anna Bergmann"))[0] == ("Anna Bergman", "PER")


def test_the_same_sentence_as_prose_is_found_first(index: LanguageIndex) -> None:
    best = find(index, "The New York Times wrote about Oslo.").context[0]
    assert best.sentence_id == "s1"
    assert [best.text[e.start_char : e.end_char] for e in best.entities] == ["New York Times", "Oslo"]


def test_exclude_self_drops_the_sentence_but_not_its_mentions_elsewhere(index: LanguageIndex) -> None:
    text = CORPUS[1].text
    found = find(index, text, exclude=text.replace(" .", "."))
    assert "s1" not in [example.sentence_id for example in found.context]
    assert "s1" not in [example.sentence_id for example in found.entity]
    assert ("New York Times", "ORG") not in mentions(found)
    assert ("Oslo", "LOC") in mentions(found)
    assert ("New York", "LOC") in mentions(found)


def test_exclude_self_drops_every_copy() -> None:
    copies = training("[Oslo](LOC) wins", "[Oslo](ORG)  wins", "[Rome](LOC) loses")
    found = find(in_memory(copies), "Oslo wins", exclude="Oslo wins")
    assert {context.sentence_id for context in found.context} <= {"s2"}
    assert {entity.sentence_id for entity in found.entity} <= {"s2"}


def test_stored_neighbours_are_what_retrieval_gives(tmp_path: Path) -> None:
    store, manifest = written(tmp_path, CORPUS)
    index = LanguageIndex.open(store, manifest, SMALL)
    text = CORPUS[2].text
    assert index.examples([text]) == in_memory(CORPUS).examples([text])
    neighbours = TrainingNeighbours.open(store, manifest, index)
    retriever = Retriever({"en": index})
    assert len(neighbours) == len(CORPUS)
    for sentence in CORPUS:
        for n, m, factor in ((4, 2, 1.0), (16, 8, -1.0), (1, 0, 0.0)):
            expected = retriever.retrieve(
                "en", sentence.text, n=n, m=m, threshold_lambda=factor, exclude_text=sentence.text
            )
            assert neighbours.examples_for(sentence.id, n=n, m=m, threshold_lambda=factor) == expected
    with pytest.raises(NotFoundError, match="not in the training set"):
        neighbours.examples_for("unknown")


@st.composite
def other_gold(draw: st.DrawFn, sentence: Sentence) -> Sentence:
    """The same sentence with any other non-overlapping gold mentions on its tokens."""
    cuts = sorted(draw(st.sets(st.integers(0, len(sentence.tokens)), max_size=6)))
    entities = [
        GoldEntity(
            start_char=sentence.tokens[first].start_char,
            end_char=sentence.tokens[last - 1].end_char,
            label=draw(st.sampled_from(["PER", "LOC", "XYZ"])),
        )
        for first, last in zip(cuts[::2], cuts[1::2], strict=False)
    ]
    return replace(sentence, entities=tuple(entities))


@settings(max_examples=25, deadline=None)
@given(st.data(), st.integers(0, len(CORPUS) - 1))
def test_the_gold_of_a_sentence_never_reaches_its_own_examples(data: st.DataObject, place: int) -> None:
    swapped = list(CORPUS)
    swapped[place] = data.draw(other_gold(CORPUS[place]))
    texts = [CORPUS[place].text]
    first, second = in_memory(CORPUS), in_memory(swapped)
    for n, m, factor in ((4, 2, 1.0), (16, 8, -9.0)):
        assert first.examples(texts, n=n, m=m, threshold_lambda=factor, exclude=texts) == second.examples(
            texts, n=n, m=m, threshold_lambda=factor, exclude=texts
        )


def test_shards_change_nothing(index: LanguageIndex) -> None:
    sharded = in_memory(CORPUS, rows_per_shard=3)
    texts = [sentence.text for sentence in CORPUS]
    everything = {"n": 16, "m": 8, "threshold_lambda": -9.0, "exclude": texts}
    assert sharded.examples(texts, **everything) == index.examples(texts, **everything)  # type: ignore[arg-type]


def test_batches_and_given_vectors_change_nothing(index: LanguageIndex) -> None:
    retriever, texts = Retriever({"en": index}), [sentence.text for sentence in CORPUS]
    together = retriever.retrieve_batch("en", texts, embeddings=SMALL.embed_texts(texts))
    assert together == [retriever.retrieve("en", text) for text in texts]
    assert retriever.retrieve_batch("en", []) == []
    vector = np.asarray(SMALL.embed_texts(texts[:1])[0])
    assert retriever.retrieve("en", texts[0], embedding=vector) == together[0]


@pytest.mark.parametrize("text", ["", "   ", "...", "😀", "a\u0301", "\ud800", "x" * 5000, "مرحبا بالعالم"])
def test_any_text_is_searched(index: LanguageIndex, text: str) -> None:
    assert isinstance(find(index, text), Examples)


def test_writing_twice_changes_nothing_and_listing_finds_it(tmp_path: Path) -> None:
    store, manifest = written(tmp_path, CORPUS)
    before = {file.path: file.modified_s for file in store.files()}
    assert write_index(store, request(CORPUS), CORPUS, SMALL) == manifest
    assert {file.path: file.modified_s for file in store.files()} == before
    assert list_indexes(store) == [manifest]
    assert Retriever.open(store, {"en": manifest.digest}).retrieve("en", "Oslo").entity


def test_a_half_written_index_goes_on_where_it_was(tmp_path: Path) -> None:
    store, manifest = written(tmp_path / "whole", CORPUS, IndexOptions(kind="flat", rows_per_shard=5))
    folder = f"en/{manifest.digest}"
    half = Store.open(tmp_path / "half", create=True)
    kept = [file.path for file in store.files() if file.path.endswith((".arrow", "00000.faiss"))]
    for path in kept:
        half.write_bytes(path, store.read_bytes(path))
    untouched = half.files()[0]
    with pytest.raises(NotFoundError, match="no finished index"):
        read_manifest(half, "en", manifest.digest)
    options = IndexOptions(kind="flat", rows_per_shard=5)
    assert write_index(half, request(CORPUS, options), CORPUS, SMALL) == manifest
    assert untouched in half.files()
    files = {file.path for file in store.files(folder)}
    assert files == {file.path for file in half.files(folder)}
    assert all(store.read_bytes(path) == half.read_bytes(path) for path in files)


def test_wrong_embedders_languages_and_corpora_are_refused(tmp_path: Path, index: LanguageIndex) -> None:
    store, manifest = written(tmp_path, CORPUS)
    with pytest.raises(IncompatibleArtefactError, match="embedder"):
        LanguageIndex.open(store, manifest, NgramEmbedder())
    with pytest.raises(NotFoundError, match="Open: en"):
        Retriever({"en": index}).retrieve("nl", "Oslo")
    with pytest.raises(InputError, match="no training sentences"):
        write_index(store, replace(request(CORPUS), corpus_digest="d" * 16), [], SMALL)
    with pytest.raises(InputError, match="Sentences of en"):
        write_index(store, replace(request(CORPUS), language="nl"), CORPUS, SMALL)
