"""A linear-chain CRF with the usual features, trained by L-BFGS: `python-crfsuite`."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import pycrfsuite
from bio import Tagged, mentions_of, tags_of, words

from retrieveall.types import Sentence

_PARAMETERS = {"c1": 0.1, "c2": 0.1, "max_iterations": 100, "feature.possible_transitions": True}


class CrfRival:
    """Words, shapes, prefixes and suffixes of each token and of two on either side.

    Args:
        folder: Where the model file is written.
    """

    def __init__(self, folder: Path) -> None:
        self._file = Path(tempfile.mkdtemp(dir=folder)) / "crf.model"
        self._tagger = pycrfsuite.Tagger()

    def train(self, train: Sequence[Sentence], dev: Sequence[Sentence]) -> None:
        """Trains to convergence; dev is not needed."""
        trainer = pycrfsuite.Trainer(verbose=False)
        trainer.set_params(_PARAMETERS)
        for sentence in train:
            trainer.append(features(words(sentence)), tags_of(sentence))
        trainer.train(str(self._file))
        self._tagger.open(str(self._file))

    def tag(self, sentences: Sequence[Sentence]) -> Tagged:
        """Tags by Viterbi."""
        return [mentions_of(one, self._tagger.tag(features(words(one)))) for one in sentences]


def features(tokens: Sequence[str]) -> list[list[str]]:
    """Returns the features of every token."""
    own = [_of_token(token) for token in tokens]
    return [_in_place(own, place) for place in range(len(tokens))]


def _in_place(own: Sequence[Sequence[str]], place: int) -> list[str]:
    found = ["bias"]
    for offset in (-2, -1, 0, 1, 2):
        at = place + offset
        if 0 <= at < len(own):
            # of tokens farther away the word and the shape alone
            kept = own[at] if abs(offset) < 2 else own[at][:2]
            found += [f"{offset}:{feature}" for feature in kept]
        else:
            found.append(f"{offset}:none")
    return found


def _of_token(token: str) -> list[str]:
    affixes = [f"{kind}{size}={part}" for size in (1, 2, 3, 4) for kind, part in _affixes(token, size)]
    kinds = [
        name
        for name, holds in (
            ("title", token.istitle()),
            ("upper", token.isupper()),
            ("digit", token.isdigit()),
            ("letters", token.isalpha()),
        )
        if holds
    ]
    return [f"w={token.lower()}", f"shape={_shape(token)}", *kinds, *affixes]


def _affixes(token: str, size: int) -> list[tuple[str, str]]:
    return [("p", token[:size].lower()), ("s", token[-size:].lower())] if len(token) >= size else []


def _shape(token: str) -> str:
    """Letters become X and x, digits d; runs are cut to two: ``Xxd-``."""
    shape = ""
    for letter in token:
        kind = "X" if letter.isupper() else "x" if letter.isalpha() else "d" if letter.isdigit() else letter
        if not shape.endswith(2 * kind):
            shape += kind
    return shape
