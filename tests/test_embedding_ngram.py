import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieveall.embedding.hashing import fold, hashed_ngrams
from retrieveall.embedding.ngram import NgramEmbedder
from retrieveall.errors import ConfigError
from retrieveall.types import Span

EMBEDDER = NgramEmbedder()
TEXTS = st.text(max_size=30)  # lone surrogates included


def naive_ngrams(text: str, lengths: tuple[int, ...]) -> list[str]:
    """Every n-gram of every word with its borders, and every word, written as one would by hand."""
    found = []
    for word in fold(text).split(" "):
        bordered = f" {word} "
        for n in lengths:
            pieces = [bordered[i : i + n] for i in range(len(bordered) - n + 1)]
            found += [piece for piece in pieces if piece.strip()] if word else []
        found += [f"word:{word}"] if word else []
    return found


@given(st.lists(TEXTS, min_size=1, max_size=5))
def test_hashes_are_the_ngrams_of_each_text(texts: list[str]) -> None:
    hashes, text_of = hashed_ngrams(texts, (1, 2, 3, 4))
    for number, text in enumerate(texts):
        expected = naive_ngrams(text, (1, 2, 3, 4))
        mine = hashes[text_of == number].tolist()
        assert len(mine) == len(expected)
        assert len(set(mine)) == len(set(expected))
        alone = hashed_ngrams([text], (1, 2, 3, 4))[0].tolist()
        assert sorted(mine) == sorted(alone)


@given(st.lists(TEXTS, max_size=6))
def test_a_vector_does_not_depend_on_its_batch(texts: list[str]) -> None:
    together = EMBEDDER.embed_texts(texts)
    assert together.shape == (len(texts), 256)
    assert together.dtype == np.float32
    for text, vector in zip(texts, together, strict=True):
        np.testing.assert_array_equal(vector, EMBEDDER.embed_texts([text])[0])
        length = float(np.linalg.norm(vector))
        assert length == pytest.approx(1.0, abs=1e-5) or (length == 0.0)


def test_batches_larger_than_one_keep_the_order() -> None:
    texts = [f"sentence number {number}" for number in range(5_000)]
    np.testing.assert_array_equal(EMBEDDER.embed_texts(texts)[4_321], EMBEDDER.embed_texts([texts[4_321]])[0])


@pytest.mark.parametrize("blank", ["", "   ", "\n\t\u3000"])
def test_blank_text_is_similar_to_nothing(blank: str) -> None:
    assert not EMBEDDER.embed_texts([blank, "word"])[0].any()


def test_case_and_white_space_do_not_count() -> None:
    a, b = EMBEDDER.embed_texts(["New  York\n", "new york"])
    np.testing.assert_array_equal(a, b)


def test_near_spellings_are_nearer_than_others() -> None:
    query, near, far = EMBEDDER.embed_texts(["University of Texas", "University of Utah", "Нижний Новгород"])
    assert query @ near > 0.5 > query @ far


def test_one_very_long_text() -> None:
    assert EMBEDDER.embed_texts(["Zürich " * 50_000]).any()


def test_mentions_are_embedded_by_their_surface() -> None:
    spans = [[Span(start_char=0, end_char=4)], [], [Span(start_char=3, end_char=7)]]
    vectors = EMBEDDER.embed_mentions(["Oslo is", "none", "in Oslo"], spans)
    assert vectors.shape == (2, 256)
    np.testing.assert_array_equal(vectors[0], vectors[1])


def test_the_digest_names_what_changes_vectors() -> None:
    digests = {NgramEmbedder(dimensions=d, lengths=n).digest for d in (64, 256) for n in ((1, 2), (1, 2, 3))}
    assert len(digests) == 4
    assert NgramEmbedder().digest == NgramEmbedder().digest


@pytest.mark.parametrize(("dimensions", "lengths"), [(0, (1,)), (8, ()), (8, (0, 1))])
def test_impossible_sizes_are_refused(dimensions: int, lengths: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="defaults"):
        NgramEmbedder(dimensions=dimensions, lengths=lengths)
