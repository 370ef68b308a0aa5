"""The bytes of `/v1/examples`: checked strictly, refused clearly."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from retrieveall.answer import offset_places
from retrieveall.errors import InputError
from serve_apps.schemas import Strict

MAX_EXAMPLES = 512


class LabelledSpan(Strict):
    """One mention of an example."""

    start_char: int = Field(ge=0)
    end_char: int = Field(ge=0)
    label: str


class ExampleIn(Strict):
    """A sentence with all that is an entity in it."""

    text: str = Field(description="A sentence; teaching it again replaces its entities.")
    language: str = Field(description="Whose index it lies over.")
    entities: list[LabelledSpan] = Field(description="All of its entities, none overlapping; may be empty.")


class TeachRequest(Strict):
    """The body of `POST /v1/examples`."""

    examples: Annotated[list[ExampleIn], Field(min_length=1, max_length=MAX_EXAMPLES)]
    offsets: Literal["codepoint", "utf16"] = Field(default="codepoint", description="Unit of all offsets.")
    shared: bool = Field(default=False, description="For all keys instead of one's own; for admins.")

    def records(self) -> list[dict[str, Any]]:
        """Returns the examples as `retrieveall.taught.checking` takes them, offsets in code points.

        Raises:
            InputError: An offset is no place of its text.
        """
        return [
            {
                "text": example.text,
                "language": example.language,
                "entities": self._entities(example, f"examples.{number}"),
            }
            for number, example in enumerate(self.examples)
        ]

    def _entities(self, example: ExampleIn, place: str) -> list[dict[str, Any]]:
        codepoints = {there: here for here, there in enumerate(offset_places(example.text, self.offsets))}
        entities = []
        for number, entity in enumerate(example.entities):
            start_char, end_char = codepoints.get(entity.start_char), codepoints.get(entity.end_char)
            if start_char is None or end_char is None:
                raise InputError(
                    f"{place}.entities.{number}: {entity.start_char}–{entity.end_char} lies outside the"
                    f" text or inside a character; offsets are counted in {self.offsets} units."
                )
            entities.append({"start_char": start_char, "end_char": end_char, "label": entity.label})
        return entities


class ListQuery(Strict):
    """The query of `GET /v1/examples`."""

    language: str | None = Field(default=None, description="Only this language.")
    shared: bool = Field(default=False, description="The shared examples instead of one's own.")
    after: str | None = Field(default=None, description="`next` of the page before.")
    limit: int = Field(default=100, ge=1, le=MAX_EXAMPLES)


class TaughtStatus(Strict):
    """What became of one example."""

    id: str
    status: Literal["added", "replaced", "known"] = Field(description="`known` was there already, the same.")


class TeachAnswer(Strict):
    """The answer of `POST /v1/examples`."""

    taught_seq: str = Field(description="Send it with `POST /v1/tag` to be answered with what was taught.")
    examples: list[TaughtStatus] = Field(description="One per example, in order.")


class ForgetAnswer(Strict):
    """The answer of `DELETE /v1/examples/{id}`."""

    taught_seq: str


class ExampleOut(Strict):
    """A taught example; offsets are code points."""

    id: str
    language: str
    text: str
    entities: list[LabelledSpan]
    created_at: str


class ExamplesAnswer(Strict):
    """The answer of `GET /v1/examples`."""

    taught_seq: str
    examples: list[ExampleOut] = Field(description="By id.")
    next: str | None = Field(
        default=None, description="Send it as `after` for the next page; null on the last."
    )
