from hypothesis import given
from hypothesis import strategies as st

from retrieveall.retrieval.candidates import MAX_UNITS, candidate_spans, name_runs
from retrieveall.text.units import split_units


def surfaces(text: str) -> list[str]:
    return [text[span.start_char : span.end_char] for span in candidate_spans(text)]


def runs(text: str, at_most: int = 8) -> list[str]:
    return [text[s.start_char : s.end_char] for s in name_runs(text, split_units(text), at_most=at_most)]


def test_every_short_run_that_starts_with_a_letter_or_digit() -> None:
    expected = "In|In (|In (New|In (New York|In (New York)|New|New York|New York)|York|York)"
    assert surfaces("In (New York)") == expected.split("|")


def test_characters_where_the_script_has_no_spaces() -> None:
    assert "京都" in surfaces("東京都に京都")


@given(st.text(max_size=40))
def test_runs_stand_on_unit_borders_and_are_short(text: str) -> None:
    units = split_units(text)
    starts = {unit.start_char: place for place, unit in enumerate(units)}
    ends = {unit.end_char: place for place, unit in enumerate(units)}
    found = [*candidate_spans(text), *name_runs(text, units, at_most=5)]
    assert all(0 <= ends[span.end_char] - starts[span.start_char] < MAX_UNITS for span in found)
    assert len(name_runs(text, units, at_most=5)) <= 5


def test_names_with_connectors_and_joiners_are_one_run() -> None:
    found = runs("the University of Texas invited Jean-Luc Picard in 1999")
    assert found == ["University of Texas", "Jean-Luc Picard"]


def test_text_without_capitals_gives_windows() -> None:
    assert "new york" in runs("in new york today", at_most=20)
    assert "東京" in runs("東京に", at_most=20)


def test_what_the_look_up_found_is_not_asked_again() -> None:
    text = "Anna visited Oslo"
    units = split_units(text)
    assert [text[s.start_char : s.end_char] for s in name_runs(text, units, at_most=8, taken=[units[2]])] == [
        "Anna"
    ]
