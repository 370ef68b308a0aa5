"""The tokenizer of the embedded base: byte-level BPE over units, with one token per marker.

Its pre-tokenizer cuts where `retrieveall.text.units` cuts, so a unit's ids are the same alone and
in running text (for characters that both regex engines know; newer ones differ, harmlessly, since
prompts are encoded unit by unit). Byte-level means that any string survives. Source: own choice.
"""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from retrieveall.errors import InputError
from retrieveall.prompting.codec import MARKERS, label_marker
from retrieveall.text.units import UNSPACED_SCRIPTS

END = "<|end|>"
PAD = "<|pad|>"

LABELS = (
    *("PER", "LOC", "ORG", "MISC", "DATE", "TIME", "MONEY", "PERCENT", "GPE", "FAC", "NORP", "EVENT"),
    *("PRODUCT", "LAW", "LANGUAGE", "QUANTITY", "ORDINAL", "CARDINAL", "WORK", "TITLE", "DRUG", "DISEASE"),
    *("PHONE", "EMAIL", "URL", "LEN", "ZIP", "QT", "DT", "TI", "AGE", "SPECIES"),
)
"""Labels with a token of their own; any other label is spelled in several tokens and works too."""

_UNIT = (
    rf" ?(?:[[{UNSPACED_SCRIPTS}]&&[^\p{{M}}]]\p{{M}}*"
    rf"|(?:[[\p{{L}}\p{{N}}_]&&[^{UNSPACED_SCRIPTS}]][\p{{M}}\u200c\u200d]*)+"
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

    Raises:
        InputError: The vocabulary has no room for bytes and markers.
    """
    markers = [*MARKERS, *map(label_marker, LABELS)]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    fixed = len(markers) + len(alphabet) + 2
    if vocabulary_size < fixed:
        raise InputError(
            f"A vocabulary of {vocabulary_size} tokens was given, bytes and markers alone are {fixed}."
            " Give a larger one."
        )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_UNIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size - len(markers),
        special_tokens=[PAD, END],
        initial_alphabet=alphabet,
        show_progress=show_progress,
    )
    tokenizer.train_from_iterator(lines, trainer)
    tokenizer.add_tokens([AddedToken(marker, normalized=False) for marker in markers])
    return _wrapped(tokenizer)


def _wrapped(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    wrapped: PreTrainedTokenizerFast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, eos_token=END, bos_token=END, pad_token=PAD
    )
    return wrapped
