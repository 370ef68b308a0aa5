"""What the sample corpus promises, for every data file that ships."""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache
from importlib import resources
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieveall.corpus.sample import (
    LABELS,
    citation_forms,
    load_sample_data,
    read_sample_data,
    sample_corpus,
    sample_languages,
)
from retrieveall.corpus.sample.frames import Contraction, Name, SampleData, parse_frame, render
from retrieveall.corpus.sample.generator import Drawn, draw_sample
from retrieveall.corpus.sample.pools import split_pools
from retrieveall.errors import ConfigError, CorpusFormatError, NotFoundError
from retrieveall.evaluation.unseen import SeenInTraining
from retrieveall.text.mentions import first_inexpressible
from retrieveall.text.units import split_units
from retrieveall.types import SPLITS, GoldEntity, Sentence, Split

LANGUAGES = sample_languages()
each_language = pytest.mark.parametrize("language", LANGUAGES)
held_out = pytest.mark.parametrize("split", ["dev", "test"])


@lru_cache
def drawn(language: str) -> tuple[Drawn, ...]:
    return tuple(draw_sample(load_sample_data(language)))


def of_split(language: str, split: Split) -> list[Drawn]:
    return [row for row in drawn(language) if row.sentence.split == split]


def folded(text: str) -> str:
    return " ".join(text.casefold().split())


def surfaces(sentence: Sentence) -> list[str]:
    return [sentence.text[e.start_char : e.end_char] for e in sentence.entities]


def test_the_eight_languages_ship() -> None:
    assert set(LANGUAGES) == {"de", "en", "es", "fr", "ja", "ru", "sw", "zh"}


@each_language
def test_data_file_is_rich_enough(language: str) -> None:
    data = load_sample_data(language)
    assert data.language == language
    assert len(data.frames) >= 60
    assert all(len(data.names[label]) >= 80 for label in LABELS)
    by_mentions = Counter(min(frame.mentions, 2) for frame in data.frames)
    assert all(by_mentions[count] >= 5 for count in (0, 1, 2))


@each_language
def test_some_frames_repeat_a_name(language: str) -> None:
    def repeats(counts: Counter[tuple[str, str]]) -> bool:
        return any(count > 1 for count in counts.values())

    frames = load_sample_data(language).frames
    assert any(repeats(Counter((s.kind, s.key) for s in frame.slots if s.is_entity)) for frame in frames)


@each_language
def test_ambiguous_names_have_two_types(language: str) -> None:
    names = load_sample_data(language).names
    types = Counter(citation for group in names.values() for citation in {name.citation for name in group})
    assert sum(count > 1 for count in types.values()) >= 8


@each_language
def test_sizes_ids_and_language(language: str) -> None:
    sentences = [row.sentence for row in drawn(language)]
    assert Counter(s.split for s in sentences) == {"train": 1000, "dev": 200, "test": 200}
    assert len({s.id for s in sentences}) == len(sentences)
    assert {s.language for s in sentences} == {language}


@each_language
def test_offsets_hold_the_names_that_were_drawn(language: str) -> None:
    for row in drawn(language):
        sentence = row.sentence
        forms = {folded(form) for name in row.names for _, form in name.forms}
        assert {folded(surface) for surface in surfaces(sentence)} <= forms
        assert len(sentence.entities) == row.frame.mentions
        assert sorted(sentence.entities) == list(sentence.entities)
        assert {entity.label for entity in sentence.entities} <= set(LABELS)


@each_language
def test_spacing_is_that_of_prose(language: str) -> None:
    stray = r"[{}]|^\s|\s$|\s\s|\s[.,)]|[(]\s" + ("" if language == "fr" else r"|\s[:;!?]")
    assert [row.sentence.text for row in drawn(language) if re.search(stray, row.sentence.text)] == []


@each_language
def test_tokens_are_units_and_mentions_end_with_them(language: str) -> None:
    for row in drawn(language):
        sentence = row.sentence
        assert sentence.tokens == split_units(sentence.text)
        assert {e.start_char for e in sentence.entities} <= {t.start_char for t in sentence.tokens}
        assert {e.end_char for e in sentence.entities} <= {t.end_char for t in sentence.tokens}


@each_language
def test_mention_rule_expresses_every_gold_entity(language: str) -> None:
    sentences = [row.sentence for row in drawn(language)]
    assert [s.id for s in sentences if first_inexpressible(s.text, s.entities) is not None] == []


@each_language
def test_no_sentence_stands_in_two_splits_or_often_in_one(language: str) -> None:
    splits: dict[str, set[str]] = {}
    for row in drawn(language):
        splits.setdefault(folded(row.sentence.text), set()).add(row.sentence.split)
    assert all(len(found) == 1 for found in splits.values())
    counts = Counter(folded(row.sentence.text) for row in drawn(language) if row.frame.slots)
    assert max(counts.values()) == 1
    assert max(Counter(row.sentence.text for row in drawn(language)).values()) <= 3


@each_language
@held_out
def test_half_of_the_names_never_occur_in_train(language: str, split: Split) -> None:
    def names(rows: list[Drawn]) -> set[tuple[str, str]]:
        return {(name.label, name.citation) for row in rows for name in row.names}

    used, trained = names(of_split(language, split)), names(of_split(language, "train"))
    assert len(used - trained) >= 0.5 * len(used)
    strings, known = {citation for _, citation in used}, {citation for _, citation in trained}
    assert len(strings - known) >= 0.5 * len(strings)
    assert strings & known, "the split should also have names that train has"


@each_language
@held_out
def test_unseen_names_are_nowhere_in_the_train_text(language: str, split: Split) -> None:
    def joined(text: str) -> str:
        return "\n" + "\n".join(text[u.start_char : u.end_char] for u in split_units(text)).casefold() + "\n"

    own = {form for name in split_pools(load_sample_data(language)).names[split] for _, form in name.forms}
    train = "".join(joined(row.sentence.text) for row in of_split(language, "train"))
    # Where words have no spaces, two words side by side may spell a short name by chance.
    long = {form for form in own if language not in ("zh", "ja") or len(form) > 3}
    assert [form for form in long if joined(form) in train] == []


@each_language
@held_out
def test_frames_are_mixed_and_a_third_is_new(language: str, split: Split) -> None:
    used = {row.frame for row in of_split(language, split)}
    trained = {row.frame for row in of_split(language, "train")}
    assert len(used - trained) >= 0.3 * len(used)
    assert used & trained


@each_language
def test_every_split_has_sentences_with_no_one_and_several_mentions(language: str) -> None:
    for split in SPLITS:
        counts = Counter(min(len(row.sentence.entities), 2) for row in of_split(language, split))
        assert min(counts[0], counts[1] / 10, counts[2] / 10) >= 2, (split, counts)


@each_language
def test_lengths_vary(language: str) -> None:
    lengths = [len(row.sentence.tokens) for row in drawn(language)]
    assert max(lengths) >= 3 * min(lengths)


@each_language
def test_unseen_names_agree_with_the_pools(language: str) -> None:
    train = (row.sentence for row in of_split(language, "train"))
    seen = SeenInTraining.of(train, citation=citation_forms(language))
    test = of_split(language, "test")
    mentions = [(row.sentence, mention) for row in test for mention in row.sentence.entities]
    unseen = sum(not seen.holds_name(sentence, mention) for sentence, mention in mentions)
    trained = {name.citation.casefold() for row in of_split(language, "train") for name in row.names}
    fresh = [n for row in test for n in row.names if n.citation.casefold() not in trained]
    assert 0.4 * len(mentions) <= unseen < len(mentions)
    assert len(fresh) <= unseen


def test_same_arguments_same_sentences_other_seed_other_sentences() -> None:
    sizes: dict[Split, int] = {"train": 30, "test": 10}
    first = sample_corpus("en", sizes=sizes)
    assert first == sample_corpus("en", sizes=sizes)
    other = sample_corpus("en", seed=1, sizes=sizes)
    assert {s.text for s in first} != {s.text for s in other}


def test_test_split_does_not_depend_on_the_size_of_train() -> None:
    small = sample_corpus("en", sizes={"train": 10, "test": 20})
    large = sample_corpus("en", sizes={"train": 50, "test": 20})
    assert [s for s in small if s.split == "test"] == [s for s in large if s.split == "test"]


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000), train=st.integers(0, 40), test=st.integers(1, 60))
def test_promises_hold_for_every_size_and_seed(seed: int, train: int, test: int) -> None:
    rows = draw_sample(load_sample_data("en"), seed=seed, sizes={"train": train, "test": test})
    names: dict[str, set[str]] = {"train": set(), "test": set()}
    frames: dict[str, set[str]] = {"train": set(), "test": set()}
    for row in rows:
        names[row.sentence.split] |= {name.citation for name in row.names}
        frames[row.sentence.split].add(row.frame.source)
    assert len(names["test"] - names["train"]) >= 0.5 * len(names["test"])
    assert len(frames["test"] - frames["train"]) >= 0.3 * len(frames["test"])


def test_unknown_language_names_the_known_ones() -> None:
    with pytest.raises(NotFoundError, match=r"choose one of: .*en"):
        sample_corpus("xx")


# Frames


def test_slots_take_cases_and_numbers_in_either_order() -> None:
    first, second = parse_frame("{PER:gen#1} {PER#1:gen}").slots
    assert first == second
    assert first.case == "gen"
    plain, other = parse_frame("{PER} met {PER}").slots
    assert plain.key != other.key


@pytest.mark.parametrize("broken", ["{PER", "PER}", "{}", "{PER LOC}", "{PER#1#2}"])
def test_broken_slots_are_refused(broken: str) -> None:
    with pytest.raises(ValueError, match="slot"):
        parse_frame(broken)


def test_render_keeps_offsets_through_contractions_and_capitals() -> None:
    rule = Contraction(before="de ", becomes="d'", initials=("a", "e"))
    name = Name(label="LOC", forms=(("", "Évreux"),))
    author = Name(label="PER", forms=(("nom", "de la Tour"), ("gen", "de la Tours")))
    frame = parse_frame("{PER:gen} vient de {LOC}.")
    filling = {(s.kind, s.key): {"LOC": name, "PER": author}[s.kind] for s in frame.slots}
    text, entities = render(frame, filling, [rule])
    assert text == "De la Tours vient d'Évreux."
    assert [text[e.start_char : e.end_char] for e in entities] == ["De la Tours", "Évreux"]


@pytest.mark.parametrize(
    ("literal", "form", "expected"),
    [
        ("le maire de ", "Avignon", "le maire d'"),
        ("De ", "Avignon", "D'"),
        ("de ", "Paris", "de "),
        ("grande ", "Avignon", "grande "),  # only the whole word "de"
    ],
)
def test_contractions(literal: str, form: str, expected: str) -> None:
    rule = Contraction(before="de ", becomes="d'", initials=("a",))
    assert rule.apply(literal, form) == expected


# Data files

TOY = """\
language: xx
names:
  PER: [Ada, Bo, Cy, Di, {nom: Eva, gen: Evas}]
  LOC: [Rome, Oslo, Lima, Bern]
  ORG: [Acme, Rome, Zeta]
fillers: {day: [Monday, Friday]}
frames:
  - "{PER} went to {LOC} on {day}."
  - "{ORG} hired {PER:gen}."
  - "Nothing happened."
  - "{PER#1} is {PER#1}."
"""


@pytest.fixture
def toy(tmp_path: Path) -> SampleData:
    return written(tmp_path, TOY)


def written(folder: Path, text: str) -> SampleData:
    path = folder / "xx.yaml"
    path.write_text(text, encoding="utf-8")
    return read_sample_data(path)


def test_this_drawing_stays_what_it_is(toy: SampleData) -> None:
    """Guards against a source of randomness that differs between machines or Python versions."""
    rows = draw_sample(toy, sizes={"train": 2, "test": 1})
    assert [row.sentence.text for row in rows] == ["Nothing happened.", "Acme hired Ada.", "Di is Di."]


def test_too_many_sentences_is_a_clear_error(toy: SampleData) -> None:
    with pytest.raises(ConfigError, match="asked for"):
        draw_sample(toy, sizes={"test": 1000})


def test_names_that_share_words_go_to_one_pool(toy: SampleData) -> None:
    pools = split_pools(toy)
    homes = {split for split in SPLITS for name in pools.names[split] if name.citation == "Rome"}
    assert len(homes) == 1
    assert sum(map(len, pools.names.values())) == 12
    assert sum(map(len, pools.frames.values())) == 4


def test_a_name_in_a_frames_own_words_goes_to_train(tmp_path: Path) -> None:
    data = written(tmp_path, TOY.replace("Nothing happened", "Bo, Cy, Di and Lima: nothing"))
    trained = {name.citation for name in split_pools(data).names["train"]}
    assert {"Bo", "Cy", "Di", "Lima"} <= trained


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("language: xx", "language: [", 3, "not valid YAML"),
        ("Bo,", "1998,", 3, "valid string"),
        ("frames:", "sentences:", 1, "frames"),
        ("ORG: [", "MISC: [", 3, "types"),
        ("Bo,", "Ada,", 3, "twice"),
        ("Bo,", "' Bo',", 3, "outer spaces"),
        ("{ORG} hired", "{DATE} hired", 9, "neither"),
        ("{ORG} hired", "{ORG hired", 9, "brace"),
        ("Nothing happened.", " Nothing happened.", 10, "outer spaces"),
        ("Nothing happened.", "{PER#1} is {PER#1}.", 11, "twice"),
        ("{day:", "{Day:", 6, "lower case"),
    ],
)
def test_broken_files_name_the_line(tmp_path: Path, old: str, new: str, line: int, message: str) -> None:
    assert old in TOY
    broken = TOY.replace(old, new)
    with pytest.raises(CorpusFormatError, match=message) as caught:
        written(tmp_path, broken)
    assert str(caught.value).startswith(f"{tmp_path / 'xx.yaml'}:{line}:")


def test_a_case_that_no_name_has_is_refused(tmp_path: Path) -> None:
    only_mappings = TOY.replace("[Rome, Oslo, Lima, Bern]", "[{nom: Rome}, {nom: Oslo}]")
    with pytest.raises(CorpusFormatError, match=r"xx\.yaml:8: no name of 'LOC' has the case 'gen'"):
        written(tmp_path, only_mappings.replace("{LOC} on", "{LOC:gen} on"))


def test_a_licence_lies_beside_the_data() -> None:
    folder = resources.files("retrieveall.corpus.sample") / "data"
    assert "CC0" in (folder / "LICENSE.md").read_text(encoding="utf-8")


# Mention rule and unseen mentions


def gold(text: str, *surfaces: str) -> tuple[GoldEntity, ...]:
    places = [text.rindex(surface) for surface in surfaces]
    return tuple(
        GoldEntity(start_char=at, end_char=at + len(surface), label="PER")
        for at, surface in zip(places, surfaces, strict=True)
    )


@pytest.mark.parametrize(
    ("text", "surface", "fine"),
    [
        ("May said so.", "May", True),
        ("In May we met May.", "May", False),  # the rule would take the month
        ("Mayor May spoke.", "May", True),  # inside a word does not count
        ("Annas Haus", "Anna", False),  # does not end on a unit border
        ("東京タワーで", "タワー", True),
    ],
)
def test_mention_rule(text: str, surface: str, fine: bool) -> None:
    assert (first_inexpressible(text, gold(text, surface)) is None) is fine
