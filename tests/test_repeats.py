"""What repeats a mention is one, too; what was found stays."""

from __future__ import annotations

from retrieveall.repeats import with_repeats
from retrieveall.types import Entity


def entity(text: str, name: str, label: str = "PER", score: float = 0.9) -> Entity:
    start = text.index(name)
    return Entity(start_char=start, end_char=start + len(name), label=label, text=name, score=score)


def spans(found: list[tuple[Entity, ...]]) -> list[list[tuple[int, str, str]]]:
    return [[(one.start_char, one.text, one.label) for one in some] for some in found]


def test_a_name_is_found_in_the_other_sentences_between_unit_borders() -> None:
    texts = ["Bola sings.", "Then Bola and Bolanle met Bola.", "No one."]
    found = with_repeats(texts, [[entity(texts[0], "Bola")], [], []])
    assert spans(found) == [[(0, "Bola", "PER")], [(5, "Bola", "PER"), (26, "Bola", "PER")], []]
    assert found[1][0].score == 0.9


def test_what_was_found_stays_and_the_longest_name_goes_first() -> None:
    texts = ["Lagos State and Lagos.", "Lagos State won.", "Lagos lost."]
    first = [entity(texts[0], "Lagos State", "ORG")]
    third = [entity(texts[2], "Lagos", "LOC", score=0.6)]
    found = with_repeats(texts, [first, [], third])
    assert spans(found) == [
        [(0, "Lagos State", "ORG"), (16, "Lagos", "LOC")],
        [(0, "Lagos State", "ORG")],
        [(0, "Lagos", "LOC")],
    ]


def test_the_label_is_that_of_the_larger_sum_and_found_labels_stay() -> None:
    texts = ["Jos is big.", "In Jos.", "Jos again.", "Jos."]
    found = with_repeats(
        texts,
        [
            [entity(texts[0], "Jos", "PER", score=0.9)],
            [entity(texts[1], "Jos", "LOC", score=0.6)],
            [entity(texts[2], "Jos", "LOC", score=0.7)],
            [],
        ],
    )
    assert [label for some in spans(found) for _, _, label in some] == ["PER", "LOC", "LOC", "LOC"]
    assert found[3][0].score == 0.7


def test_unsure_mentions_and_single_characters_are_not_looked_for() -> None:
    texts = ["Eko and \u65e5.", "Eko and \u65e5."]
    found = with_repeats(texts, [[entity(texts[0], "Eko", score=0.4), entity(texts[0], "\u65e5")], []])
    assert [len(some) for some in found] == [2, 0]
