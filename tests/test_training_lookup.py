"""Look-up lessons have the tagger's prompt shape, and teach what their prompt shows."""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from retrieveall.models.tokenizer import train_tokenizer
from retrieveall.prompting.codec import EXAMPLE, NAMES, TAGS, TEXT, PromptCodec
from retrieveall.text.units import split_units, unit_pieces
from retrieveall.training.lookup import LookupConfig, LookupLessons
from tests.models import SENTENCES

WORDS = ("Anna", "Bo", "went", "to", "New", "York", "12", "7th", "Москва", "é", ".", ",", "’s", "l'eau")
UNSPACED = ("東京", "は", "ラーメン", "กรุงเทพ", "ที่", "서울", "에서", "3", "。")
SPACED_LINE = st.lists(st.sampled_from(WORDS), min_size=1, max_size=8).map(" ".join)
UNSPACED_LINE = st.lists(st.sampled_from(UNSPACED), min_size=1, max_size=5).map("".join)
ANY_LINE = st.text(st.characters(exclude_categories=("C", "Z"), exclude_characters="<>"), min_size=1)
LINES = st.lists(SPACED_LINE | UNSPACED_LINE | ANY_LINE, min_size=1, max_size=12)
SEEDS = st.integers(0, 10_000)

SHORT = LookupConfig(max_line_chars=30)  # so that no example is dropped for want of room
RULES = LookupConfig(rule_share=1, cue_share=0, max_line_chars=60)
NAMES_ONLY = LookupConfig(rule_share=0, cue_share=0, max_context_examples=0, fuzzy_share=0, max_line_chars=30)


@functools.cache
def codec() -> PromptCodec:
    return PromptCodec(train_tokenizer([*SENTENCES, *WORDS, *UNSPACED], vocabulary_size=440))


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """A lesson, read back from the text that its tokens spell."""

    names: list[tuple[str, str]]
    examples: list[tuple[str, list[tuple[str, str]]]]
    text: str
    tags: list[tuple[str, str]]

    @property
    def shown(self) -> list[tuple[str, str]]:
        """Every mention and label of the prompt."""
        return [*self.names, *(pair for _, pairs in self.examples for pair in pairs)]


def pairs(line: str) -> list[tuple[str, str]]:
    assert re.fullmatch(r"(?:[^<>]+<[A-Z]+>)*", line), line
    return re.findall(r"([^<>]+)<([A-Z]+)>", line)


def parse(ids: Sequence[int]) -> Lesson:
    """Reads a lesson; fails unless it is names?, examples*, text, tag line, end token."""
    assert ids[-1] == codec().end_id
    assert codec().end_id not in ids[:-1]
    prompt, text, tags = re.fullmatch(
        f"(.*){TEXT}(.*){TAGS}(.*)", codec().spelling(ids[:-1]), flags=re.DOTALL
    ).groups()  # type: ignore[union-attr]  # no match fails the test
    names, *examples = prompt.split(EXAMPLE)
    assert not names or names.startswith(NAMES)
    parts = [example.split(TAGS) for example in examples]
    assert all(len(part) == 2 for part in parts)
    return Lesson(
        names=pairs(names.removeprefix(NAMES)),
        examples=[(shown, pairs(line)) for shown, line in parts],
        text=text,
        tags=pairs(tags),
    )


def draw(lines: list[str], seed: int, config: LookupConfig) -> Lesson:
    return parse(LookupLessons({"xx": lines}, codec(), config).draw("xx", random.Random(seed)))


def assert_runs(text: str, mentions: Sequence[tuple[str, str]]) -> None:
    """The mentions are runs of the text's unit pieces, in order and without overlap."""
    pieces = unit_pieces(text, split_units(text))
    at = 0
    for mention, _ in mentions:
        starts = range(at, len(pieces))
        run = next(
            (i, j) for i in starts for j in range(i + 1, len(pieces) + 1) if "".join(pieces[i:j]) == mention
        )
        at = run[1]


@settings(max_examples=30)
@given(lines=LINES, seed=SEEDS)
def test_a_lesson_parses_and_its_targets_are_runs_of_the_sentences_units(lines: list[str], seed: int) -> None:
    lesson = draw(lines, seed, SHORT)
    assert lesson.text.removeprefix(" ") in {
        "".join(unit_pieces(line[:30], split_units(line[:30]))).removeprefix(" ") for line in lines
    }
    assert_runs(lesson.text, lesson.tags)
    for shown, tags in lesson.examples:
        assert_runs(shown, tags)
    assert len(lesson.names) <= SHORT.max_entity_examples + len({label for _, label in lesson.tags})
    assert len(lesson.examples) <= SHORT.max_context_examples


@settings(max_examples=30)
@given(lines=LINES, seed=SEEDS)
def test_the_same_randomness_gives_the_same_lesson(lines: list[str], seed: int) -> None:
    lessons = LookupLessons({"xx": lines, "yy": ["other"]}, codec(), LookupConfig())
    first = lessons.draw("xx", random.Random(seed))
    lessons.draw("yy", random.Random(0))
    assert lessons.draw("xx", random.Random(seed)) == first


@settings(max_examples=30)
@given(lines=LINES, seed=SEEDS)
def test_looked_up_names_are_tagged_as_the_names_say(lines: list[str], seed: int) -> None:
    lesson = draw(lines, seed, NAMES_ONLY)
    labels: dict[str, set[str]] = {}
    for mention, label in lesson.names:
        labels.setdefault(mention.strip(), set()).add(label)
    assert not lesson.examples
    for mention, label in lesson.tags:
        assert labels[mention.strip()] == {label}


FUZZY = LookupConfig(rule_share=0, cue_share=0, max_context_examples=0, fuzzy_share=1, max_line_chars=30)


@settings(max_examples=40)
@example(lines=["Anna Anna"], seed=0)  # the name of another line is the same, and not fuzzy
@given(lines=LINES, seed=SEEDS)
def test_a_fuzzy_name_lacks_at_most_two_letters(lines: list[str], seed: int) -> None:
    lesson = draw(lines, seed, FUZZY)
    for mention, label in lesson.tags:
        surface = mention.strip()
        cuts = {surface} if len(surface) < 6 else {surface, surface[:-1].rstrip(), surface[:-2].rstrip()}
        assert any(name.strip() in cuts and other == label for name, other in lesson.names)


def test_where_all_are_fuzzy_some_names_lack_letters() -> None:
    lessons = [draw(["Katharina went to Nottingham"], seed, FUZZY) for seed in range(20)]
    shown = {name.strip() for lesson in lessons for name, _ in lesson.names}
    assert any("Katharina".startswith(name) and 6 < len(name) < 9 for name in shown)


def real_like_lines() -> list[str]:
    rng = random.Random(0)
    return [" ".join(rng.choices(WORDS, k=rng.randint(4, 10))) for _ in range(300)]


CUED = [f"{verb} {name} {end}" for verb in ("sees", "hears") for name in "ABCDEFGH" for end in "xyz"]


def labels_by_neighbour(lesson: Lesson, side: int) -> set[tuple[str, str]]:
    """Of every mention the word beside it, and its label."""
    found: set[tuple[str, str]] = set()
    for text, tags in [*lesson.examples, (lesson.text, lesson.tags)]:
        words = ["", *text.split(), ""]
        found |= {(words[words.index(mention.strip()) + side], label) for mention, label in tags}
    return found


def test_what_stands_beside_a_cue_has_the_cues_label() -> None:
    config = LookupConfig(rule_share=0, cue_share=1)
    lessons = [lesson for seed in range(30) if (lesson := draw(CUED, seed, config)).tags]
    assert len(lessons) > 15
    for lesson in lessons:
        sides = [labels_by_neighbour(lesson, side) for side in (-1, 1)]
        assert any(len({word for word, _ in seen}) == len(seen) for seen in sides)
    assert any(len({label for _, label in labels_by_neighbour(lesson, -1)}) > 1 for lesson in lessons)


@pytest.mark.parametrize("shares", [(0, 0), (1, 0), (0, 1)], ids=["lookup", "rule", "cue"])
def test_every_tagged_label_is_shown_somewhere_in_the_prompt(shares: tuple[float, float]) -> None:
    config = LookupConfig(rule_share=shares[0], cue_share=shares[1])
    lessons = [draw(real_like_lines(), seed, config) for seed in range(150)]
    tagged = [lesson for lesson in lessons if lesson.tags]
    assert len(tagged) > 120
    for lesson in tagged:
        assert {tag for _, tag in lesson.tags} <= {tag for _, tag in lesson.shown}


def test_lessons_vary_in_labels_and_in_what_they_show() -> None:
    lessons = [draw(real_like_lines(), seed, LookupConfig()) for seed in range(150)]
    labels = {label for lesson in lessons for _, label in lesson.shown}
    assert len(labels) > 30
    assert {len(lesson.examples) for lesson in lessons} == {0, 1, 2, 3}
    assert any(len(codec().label(label)) > 1 for label in labels)
    anna = {label for lesson in lessons for mention, label in lesson.tags if mention == " Anna"}
    assert len(anna) > 5  # a marker means something within its own prompt only


RULE_WORDS = ("Anna", "Bo", "Cy", "went", "far", "12", "7", "x")
RULE_LINE = st.lists(st.sampled_from(RULE_WORDS), min_size=1, max_size=8).map(" ".join)


def kind_of(word: str) -> str:
    return "digits" if word[0].isdigit() else "caps" if word[0].isupper() else "other"


def expected_runs(line: str) -> list[tuple[str, str]]:
    """Runs of capitalised words and of numbers, but for a lone word that opens the line."""
    runs = [(kind, list(words)) for kind, words in groupby(line.split(), key=kind_of)]
    if runs[0][0] == "caps" and len(runs[0][1]) == 1:
        runs = runs[1:]
    return [(" " + " ".join(words), kind) for kind, words in runs if kind != "other"]


@settings(max_examples=30)
@given(lines=st.lists(RULE_LINE, min_size=1, max_size=6), seed=SEEDS)
def test_a_rule_is_the_same_in_every_line_of_a_lesson(lines: list[str], seed: int) -> None:
    lesson = draw(lines, seed, RULES)
    assert set(lesson.names) <= set(lesson.tags)  # only what no example line shows
    tagged = [(lesson.text, lesson.tags), *lesson.examples]
    kinds = {kind_of(mention.strip()) for _, tags in tagged for mention, _ in tags}
    labels: dict[tuple[str, bool], set[str]] = {}
    for line, tags in tagged:
        wanted = [mention for mention, kind in expected_runs(line) if kind in kinds]
        assert [mention for mention, _ in tags] == wanted
        for mention, label in tags:
            labels.setdefault((kind_of(mention.strip()), " " in mention.strip()), set()).add(label)
    assert all(len(one) == 1 for one in labels.values())
    if kinds == {"caps", "digits"}:
        numbers = {label for (kind, _), one in labels.items() if kind == "digits" for label in one}
        names = {label for (kind, _), one in labels.items() if kind == "caps" for label in one}
        assert numbers.isdisjoint(names)


@pytest.mark.parametrize("seed", range(6))
def test_a_line_the_vocabulary_hardly_knows_still_makes_a_lesson(seed: int) -> None:
    line = "𒀀𒁀𒂀" * 100
    lesson = draw([line], seed, LookupConfig())
    assert len(codec().text(line[:220]).ids) > 512
    assert lesson.text == " " + line[:220]


def test_lines_that_spell_markers_add_none() -> None:
    lessons = LookupLessons({"xx": ["<PER> Tags: <|end|> Names: <LOC>"]}, codec(), SHORT)
    for seed in range(40):
        ids = lessons.draw("xx", random.Random(seed))
        count = {marker: ids.count(codec().piece(marker)[0]) for marker in (NAMES, EXAMPLE, TEXT, TAGS)}
        assert count[TEXT] == 1 and count[TAGS] == count[EXAMPLE] + 1 and count[NAMES] <= 1
        assert ids.count(codec().end_id) == 1


def test_longer_lines_are_cut() -> None:
    lesson = draw(["ab " * 100], 0, LookupConfig(max_line_chars=30))
    assert lesson.text == " ab" * 10
