"""The tokenizer of the embedded base: byte-level BPE over units, with one token per marker.

Its pre-tokenizer cuts where `retrieveall.text.units` cuts, so a unit's ids are the same alone and
in running text. Byte-level means that any string survives. Source: own choice.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from retrieveall.prompting.codec import MARKERS, label_marker

END = "<|end|>"
PAD = "<|pad|>"

LABELS = (
    *("PER", "LOC", "ORG", "MISC", "DATE", "TIME", "MONEY", "PERCENT", "GPE", "FAC", "NORP", "EVENT"),
    *("PRODUCT", "LAW", "LANGUAGE", "QUANTITY", "ORDINAL", "CARDINAL", "WORK", "TITLE", "DRUG", "DISEASE"),
    *("PHONE", "EMAIL", "URL", "LEN", "ZIP", "QT", "DT", "TI", "AGE", "SPECIES"),
)
"""Labels with a token of their own; any other label is spelled in several tokens and works too."""

_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}\p{Hangul}"
_UNIT = (
    rf" ?(?:[[{_UNSPACED}]&&[^\p{{M}}]]\p{{M}}*"
    rf"|(?:[[\p{{L}}\p{{N}}_]&&[^{_UNSPACED}]][\p{{M}}\u200c\u200d]*)+"
    r"|[^\s]\p{M}*)"
)


def train_tokenizer(
    lines: Iterable[str], *, vocabulary_size: int, show_progress: bool = False
) -> PreTrainedTokenizerFast:
    """Trains the tokenizer.

    Args:
        lines: Text, one sentence a string.
        vocabulary_size: Number of tokens, bytes and markers included.
        show_progress: Draw the library's own progress bar on stderr.

    Returns:
        A Hugging Face tokenizer whose end and beginning token is ``<|end|>``; padding is a token of its own.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_UNIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    markers = [*MARKERS, *map(label_marker, LABELS)]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size - len(markers),
        special_tokens=[PAD, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=show_progress,
    )
    tokenizer.train_from_iterator(lines, trainer)
    tokenizer.add_tokens([AddedToken(marker, normalized=False) for marker in markers])
    fast: Any = PreTrainedTokenizerFast
    return fast(tokenizer_object=tokenizer, eos_token=END, bos_token=END, pad_token=PAD)
