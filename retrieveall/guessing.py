"""A cheap guess of a sentence's entities, for the engine to try before it decodes token by token.

Where there is a prior, its likeliest tags. Else mentions of the prompt's own examples that stand in the
sentence keep their labels, and other name-like runs get the label that the examples have most often. A wrong
guess costs some tokens of one pass, a right one saves several passes; the answer is the model's either way.
Source: own choice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from retrieveall.engine.chain import likeliest_mentions
from retrieveall.engine.protocol import GuessedSpan
from retrieveall.prompting.codec import EncodedText
from retrieveall.retrieval.candidates import name_runs
from retrieveall.text.mentions import occurrences
from retrieveall.types import Examples, UnitScores

_MOST_RUNS = 8


def guess_spans(
    text: str,
    encoded: EncodedText,
    examples: Examples,
    labels: Sequence[str],
    prior: UnitScores | None = None,
) -> tuple[GuessedSpan, ...]:
    """Guesses the mentions of a sentence.

    Args:
        text: The sentence.
        encoded: The same, encoded.
        examples: What its prompt shows.
        labels: Labels that may be emitted, at least one.
        prior: What the prior says of its units.

    Returns:
        Mentions in order, the longest of those that begin first; none inside another.
    """
    if prior is not None:
        return tuple(
            GuessedSpan(first_unit=first, end_unit=end, label=label)
            for first, end, label in likeliest_mentions(prior)
        )
    seen = {example.mention: example.label for example in reversed(examples.entity)}
    found = [
        GuessedSpan(first_unit=place[0], end_unit=place[1], label=label)
        for mention, label in seen.items()
        for start in occurrences(text, mention)
        if (place := encoded.unit_range(start, start + len(mention))) is not None
    ]
    usual = _usual_label(examples, labels)
    for run in name_runs(text, encoded.units, at_most=_MOST_RUNS) if text != text.lower() else ():
        place = encoded.unit_range(run.start_char, run.end_char)
        if place is not None:
            found.append(GuessedSpan(first_unit=place[0], end_unit=place[1], label=usual))
    # of equal spans the one of an example comes first, because sorting keeps the order
    found.sort(key=lambda span: (span.first_unit, -span.end_unit))
    kept: list[GuessedSpan] = []
    for span in found:
        if not kept or span.first_unit >= kept[-1].end_unit:
            kept.append(span)
    return tuple(kept)


def _usual_label(examples: Examples, labels: Sequence[str]) -> str:
    shown = [example.label for example in examples.entity]
    shown += [entity.label for example in examples.context for entity in example.entities]
    counted = Counter(label for label in shown if label in labels).most_common(1)
    return counted[0][0] if counted else labels[0]
