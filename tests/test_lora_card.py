from __future__ import annotations

import json
from typing import Any

import pytest

from retrieveall.errors import IncompatibleArtefactError, InputError
from retrieveall.lora.card import AdapterCard, check_compatible, read_card
from tests.stores import BASE, EMBEDDER, card, dev


def test_a_card_survives_its_bytes() -> None:
    made = card(
        dev_by_language={"nl": dev(0.7)},
        calibration=((0.0, 0.1), (1.0, 0.9)),
        training={"rank": 8, "render": {"drop_rate": 0.1}},
        embedder_digest=EMBEDDER,
    )
    assert read_card(json.loads(json.dumps(made.to_dict())), source="card.json") == made


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": []}, "at least one"),
        ({"labels": ["PER", "PER"]}, "none twice"),
        ({"labels": ["<PER>"]}, "label"),
        ({"language": "../x"}, "language"),
        ({"language": "NL"}, "lower case"),
        ({"base_digest": "tiny"}, "digest"),
        ({"index_digest": "../../etc"}, "digest"),
        ({"dev": {"f1": 2.0, "f1_low": 0.1, "f1_high": 0.2, "sentences": 3}}, "fractions"),
        ({"dev": {"f1": 0.5}}, "f1_low"),
        ({"surprise": 1}, "unknown fields: surprise"),
        ({"strategy": "magic"}, "strategy"),
        ({"synthetic": "perhaps"}, "synthetic"),
    ],
)
def test_broken_cards_are_refused_with_the_field(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_card({**card().to_dict(), **change}, source="card.json")


@pytest.mark.parametrize("values", [None, [], "card", 1])
def test_what_is_no_object_is_no_card(values: object) -> None:
    with pytest.raises(InputError, match=r"card\.json holds"):
        read_card(values, source="card.json")


def test_a_missing_field_is_named() -> None:
    values = card().to_dict()
    del values["corpus_digest"]
    with pytest.raises(InputError, match="corpus_digest"):
        read_card(values, source="card.json")


def test_a_newer_format_is_not_guessed_at() -> None:
    with pytest.raises(IncompatibleArtefactError, match="format_version 2"):
        read_card({**card().to_dict(), "format_version": 2, "new": 1}, source="card.json")


@pytest.mark.parametrize(
    ("made_for", "given"),
    [
        ({"base_digest": BASE}, {"base_digest": "a" * 16, "embedder_digest": EMBEDDER}),
        ({"embedder_digest": EMBEDDER}, {"base_digest": BASE, "embedder_digest": "d" * 16}),
        ({"prompt_format": "0"}, {"base_digest": BASE, "embedder_digest": EMBEDDER, "prompt_format": "99"}),
    ],
)
def test_other_bases_embedders_and_prompts_are_refused_naming_both(
    made_for: dict[str, str], given: dict[str, Any]
) -> None:
    with pytest.raises(IncompatibleArtefactError) as caught:
        check_compatible(card(**made_for), **given)
    other = next(value for key, value in given.items() if made_for.get(key, value) != value)
    assert other in str(caught.value) and next(iter(made_for.values())) in str(caught.value)


def test_an_adapter_without_an_index_fits_every_embedder() -> None:
    check_compatible(card(), base_digest=BASE, embedder_digest=EMBEDDER)
    check_compatible(card(embedder_digest=EMBEDDER), base_digest=BASE, embedder_digest=None)


def test_dev_scores_are_those_of_the_language_where_there_are_several() -> None:
    made: AdapterCard = card("mul", dev_by_language={"nl": dev(0.7)})
    assert made.dev_for("nl") == dev(0.7)
    assert made.dev_for("de") is None
    assert card("nl").dev_for("nl") == dev(0.5)
