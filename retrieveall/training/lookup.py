"""Label-free lessons for the base model: copy from the sentence, look up in the prompt, heed the neighbours.

A plain language model of a few million weights learns to copy badly. These lessons have the exact
shape of our prompt, but their "entities" are made from raw text: capitalised runs, numbers, random
spans or whatever stands beside a common word, under marker types that are drawn anew for every prompt and
mean only what the prompt's own examples say. So the base learns the form and the skill, never what an
entity is. Source: own choice.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from retrieveall.models.tokenizer import LABELS
from retrieveall.prompting.codec import PromptCodec
from retrieveall.prompting.hierarchical import DEFAULT_BUDGET_TOKENS, build_prompt
from retrieveall.text.units import split_units
from retrieveall.types import ContextExample, EntityExample, Examples, GoldEntity, Span

_MAX_SPAN_UNITS = 5
_ODD_LABEL_SHARE = 0.1
_ROOM_FOR_MARKERS = 32  # tokens of the two markers around the sentence, by any tokenizer
_CUES = 3  # of one lesson
_CUE_SAMPLE = 6000  # lines of a language in which common words are counted
_CUE_LINES = 12  # that a common word stands in
_DRAWS_FOR_A_SPAN = 4  # a lesson without any span teaches little: draw again


@dataclass(frozen=True, kw_only=True, slots=True)
class LookupConfig:
    """Shares of the lesson kinds and sizes of the prompts.

    Attributes:
        rule_share: Share of lessons where every line is tagged by one rule.
        cue_share: Share of lessons where common words say the labels of what stands beside them. The
            other lessons look up spans.
        max_entity_examples: Most mentions shown.
        max_context_examples: Most tagged sentences shown.
        fuzzy_share: Share of shown mentions that differ a little from the sentence's.
        max_line_chars: Longer lines are not used for lessons.
    """

    rule_share: float = 0.3
    cue_share: float = 0.25
    max_entity_examples: int = 6
    max_context_examples: int = 3
    fuzzy_share: float = 0.15
    max_line_chars: int = 220


class LookupLessons:
    """Draws lessons from raw lines.

    Args:
        lines: Raw sentences by language.
        codec: The base model's codec.
        config: Sizes and shares.
    """

    def __init__(self, lines: Mapping[str, Sequence[str]], codec: PromptCodec, config: LookupConfig) -> None:
        self._lines = lines
        self._codec = codec
        self._config = config
        self._cues: dict[str, dict[str, list[str]]] = {}

    def draw(self, language: str, rng: random.Random) -> list[int]:
        """Returns the token ids of one lesson: prompt, tag line, end token."""
        lesson = self._lesson(rng.random())
        for _ in range(_DRAWS_FOR_A_SPAN):
            text, entities, examples = lesson(language, rng)
            if entities:
                break
        encoded = self._codec.text(text)
        # A line in a script that the vocabulary hardly knows may need more tokens than a prompt has.
        budget = max(DEFAULT_BUDGET_TOKENS, len(encoded.ids) + _ROOM_FOR_MARKERS)
        prompt = build_prompt(self._codec, encoded, examples, budget_tokens=budget)
        return [*prompt.ids, *self._codec.tags(encoded, entities), self._codec.end_id]

    def _lesson(self, share: float) -> Callable[[str, random.Random], tuple[str, list[GoldEntity], Examples]]:
        if share < self._config.rule_share:
            return self._rule
        return self._cue if share < self._config.rule_share + self._config.cue_share else self._lookup

    def _line(self, language: str, rng: random.Random) -> str:
        line = rng.choice(self._lines[language])
        return line if len(line) <= self._config.max_line_chars else line[: self._config.max_line_chars]

    def _rule(self, language: str, rng: random.Random) -> tuple[str, list[GoldEntity], Examples]:
        """Every capitalised run, or every number, has a label; the examples show which."""
        labels = _draw_labels(rng, 3)
        chosen = rng.choice((("caps",), ("digits",), ("caps", "digits"), ("caps", "length")))

        def tagged_line(wanted: set[str] | None) -> tuple[str, list[GoldEntity]]:
            """A line with an entity of the wanted labels (of any, if None), or the last one drawn."""
            for _ in range(_DRAWS_FOR_A_SPAN):
                text = self._line(language, rng)
                entities = [_entity(span, labels[rule]) for span, rule in _rule_spans(text, chosen)]
                if any(wanted is None or entity.label in wanted for entity in entities):
                    break
            return text, entities

        text, entities = tagged_line(None)
        missing = {entity.label for entity in entities}
        context: list[ContextExample] = []
        for _ in range(rng.randint(0, self._config.max_context_examples)):
            line, found = tagged_line(missing or None)
            context.append(ContextExample(text=line, entities=tuple(found)))
            missing -= {entity.label for entity in found}
        return text, entities, _with_missing(text, entities, (), context)

    def _cue(self, language: str, rng: random.Random) -> tuple[str, list[GoldEntity], Examples]:
        """What stands right after, or right before, one of a few common words has that word's label."""
        lines_of = self._cue_lines(language)
        if not lines_of:
            return self._lookup(language, rng)
        common = list(lines_of)
        cues = rng.sample(common, min(_CUES, len(common)))
        first, labels = cues[0], dict(zip(cues, _draw_labels(rng, len(cues)), strict=True))
        after = rng.random() < 0.5

        def tagged_line(cue: str) -> tuple[str, list[GoldEntity]]:
            """A line where something stands beside the cue, or the last one drawn."""
            for _ in range(_DRAWS_FOR_A_SPAN):
                text = rng.choice(lines_of[cue])
                entities = _beside_cues(text, labels, after=after)
                if any(entity.label == labels[cue] for entity in entities):
                    break
            return text, entities

        text, entities = tagged_line(first)
        shown = rng.sample(list(labels), min(len(labels), self._config.max_context_examples))
        lines = [(line, found) for line, found in map(tagged_line, shown) if line != text]
        context = [ContextExample(text=line, entities=tuple(found)) for line, found in lines]
        return text, entities, _with_missing(text, entities, (), context)

    def _cue_lines(self, language: str) -> dict[str, list[str]]:
        """The common words of a language, each with lines that hold it."""
        if language not in self._cues:
            lines = [line for line in self._lines[language] if len(line) <= self._config.max_line_chars]
            sample = random.Random(language).sample(lines, min(len(lines), _CUE_SAMPLE))
            lines_of: dict[str, list[str]] = {}
            for line in sample:
                for word in sorted({_word(line, unit) for unit in split_units(line)}):
                    lines_of.setdefault(word, []).append(line)
            self._cues[language] = {
                word: those
                for word, those in lines_of.items()
                if len(those) >= _CUE_LINES and any(map(str.isalpha, word))
            }
        return self._cues[language]

    def _lookup(self, language: str, rng: random.Random) -> tuple[str, list[GoldEntity], Examples]:
        """Surfaces that the prompt shows are tagged with its label wherever they stand; nothing else is."""
        text = self._line(language, rng)
        labels = _draw_labels(rng, 4)
        entity: list[EntityExample] = []
        lines: list[str] = []
        shown = {surface: rng.choice(labels) for surface in _draw_surfaces(text, rng, rng.randint(0, 4))}
        for surface, label in list(shown.items()):
            if len(lines) < self._config.max_context_examples and rng.random() < 0.4:
                line, others = self._spliced(language, surface, rng)
                lines.append(line)
                shown = {**{other: rng.choice(labels) for other in others}, **shown}
            else:
                entity.append(EntityExample(mention=self._blur(surface, rng), label=label))
        entity += [
            EntityExample(mention=surface, label=shown.setdefault(surface, rng.choice(labels)))
            for surface in self._distractors(language, self._config.max_entity_examples - len(entity), rng)
        ]
        rng.shuffle(entity)
        context = [ContextExample(text=line, entities=tuple(_occurrences(line, shown))) for line in lines]
        entities = _occurrences(text, shown)
        return text, entities, _with_missing(text, entities, entity, context)

    def _distractors(self, language: str, at_most: int, rng: random.Random) -> list[str]:
        """Surfaces of other lines."""
        return [
            surface
            for _ in range(rng.randint(0, at_most))
            for surface in _draw_surfaces(self._line(language, rng), rng, 1)
        ]

    def _spliced(self, language: str, surface: str, rng: random.Random) -> tuple[str, list[str]]:
        """Another line in which the surface stands where a span of its own stood, and a further surface."""
        line = self._line(language, rng)
        places = _draw_spans(line, rng, 2)
        if not places:
            return surface, []
        hole = places.pop(rng.randrange(len(places)))
        others = [line[s.start_char : s.end_char] for s in places]
        return line[: hole.start_char] + surface + line[hole.end_char :], others

    def _blur(self, surface: str, rng: random.Random) -> str:
        """Sometimes drops the last letters, as another case form would."""
        if len(surface) < 6 or rng.random() >= self._config.fuzzy_share:
            return surface
        return surface[: -rng.randint(1, 2)].rstrip()


def _draw_labels(rng: random.Random, count: int) -> list[str]:
    """Marker types of one prompt; a tenth of them have no token of their own."""
    return [
        "".join(rng.choices("ABCDEFGHIJKLMNOPRSTUVW", k=rng.randint(2, 4)))
        if rng.random() < _ODD_LABEL_SHARE
        else label
        for label in rng.sample(LABELS, count)
    ]


def _with_missing(
    text: str,
    entities: Sequence[GoldEntity],
    entity: Sequence[EntityExample],
    context: Sequence[ContextExample],
) -> Examples:
    """The examples, and before them one mention of each tagged label that none of them shows."""
    labels = {example.label for example in entity} | {e.label for one in context for e in one.entities}
    added: list[EntityExample] = []
    for one in entities:
        if one.label not in labels:
            labels.add(one.label)
            added.append(EntityExample(mention=text[one.start_char : one.end_char], label=one.label))
    return Examples(entity=(*added, *entity), context=tuple(context))


def _entity(span: Span, label: str) -> GoldEntity:
    return GoldEntity(start_char=span.start_char, end_char=span.end_char, label=label)


def _is_capitalised(text: str, unit: Span) -> bool:
    return text[unit.start_char].isupper()


def _runs(text: str, keep: Sequence[bool], units: Sequence[Span]) -> list[Span]:
    """Joins neighbouring kept units, at most one space apart, into spans."""
    spans: list[Span] = []
    previous = -2
    for index, unit in enumerate(units):
        if not keep[index]:
            continue
        if previous == index - 1 and unit.start_char - spans[-1].end_char <= 1:
            spans[-1] = Span(start_char=spans[-1].start_char, end_char=unit.end_char)
        else:
            spans.append(unit)
        previous = index
    return spans


def _capitalised_runs(text: str) -> list[Span]:
    """Runs of capitalised words; a lone word that opens the sentence does not count."""
    units = split_units(text)
    runs = _runs(text, [_is_capitalised(text, unit) for unit in units], units)
    opening = bool(runs) and runs[0] == units[0]
    return runs[1:] if opening else runs


def _rule_spans(text: str, chosen: Sequence[str]) -> list[tuple[Span, int]]:
    """Spans that the chosen rules tag, with the index of the rule's label, in order of appearance."""
    found: list[tuple[Span, int]] = []
    if "caps" in chosen:
        by_length = "length" in chosen
        runs = _capitalised_runs(text)
        found += [(run, 2 if by_length and " " in text[run.start_char : run.end_char] else 0) for run in runs]
    if "digits" in chosen:
        units = split_units(text)
        numbers = _runs(text, [text[unit.start_char].isdigit() for unit in units], units)
        found += [(number, 1) for number in numbers]
    return sorted(found, key=lambda item: item[0])


def _beside_cues(text: str, labels: Mapping[str, str], *, after: bool) -> list[GoldEntity]:
    """The units beside the cues, whole runs of capitalised words where they are part of one."""
    units = split_units(text)
    runs = {unit: run for run in _capitalised_runs(text) for unit in units if _within(unit, run)}
    found: list[GoldEntity] = []
    for number, unit in enumerate(units):
        label = labels.get(_word(text, unit))
        beside = number + 1 if after else number - 1
        if label is None or not 0 <= beside < len(units) or not text[units[beside].start_char].isalnum():
            continue
        span = runs.get(units[beside], units[beside])
        if not _within(unit, span) and (not found or found[-1].end_char <= span.start_char):
            found.append(_entity(span, label))
    return found


def _within(unit: Span, span: Span) -> bool:
    return span.start_char <= unit.start_char and unit.end_char <= span.end_char


def _word(text: str, unit: Span) -> str:
    return text[unit.start_char : unit.end_char].lower()


def _draw_spans(text: str, rng: random.Random, count: int) -> list[Span]:
    """At most ``count`` spans that do not overlap: capitalised runs half of the time, else random."""
    units = split_units(text)
    if not units:
        return []
    runs = _capitalised_runs(text)
    drawn: list[Span] = []
    for _ in range(count):
        if runs and rng.random() < 0.5:
            span = rng.choice(runs)
        else:
            first = rng.randrange(len(units))
            last = min(
                len(units) - 1, first + min(rng.randrange(_MAX_SPAN_UNITS), rng.randrange(_MAX_SPAN_UNITS))
            )
            span = Span(start_char=units[first].start_char, end_char=units[last].end_char)
        if all(span.end_char <= other.start_char or other.end_char <= span.start_char for other in drawn):
            drawn.append(span)
    return drawn


def _draw_surfaces(text: str, rng: random.Random, count: int) -> list[str]:
    return [text[span.start_char : span.end_char] for span in _draw_spans(text, rng, count)]


def _occurrences(text: str, labels: Mapping[str, str]) -> list[GoldEntity]:
    """Every place where a known surface stands on unit borders, leftmost and longest first."""
    units = split_units(text)
    ends = {unit.end_char for unit in units}
    found: list[GoldEntity] = []
    free_from = 0
    for unit in units:
        if unit.start_char < free_from:
            continue
        for surface in sorted(labels, key=len, reverse=True):
            end = unit.start_char + len(surface)
            if end in ends and text.startswith(surface, unit.start_char):
                found.append(GoldEntity(start_char=unit.start_char, end_char=end, label=labels[surface]))
                free_from = end
                break
    return found
