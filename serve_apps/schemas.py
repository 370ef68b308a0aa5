"""The bytes that enter over HTTP: checked strictly, refused clearly."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from retrieveall.answer import AnswerOptions
from retrieveall.tagger import TextInput
from retrieveall.taught.view import SEQ_PATTERN

MAX_TEXTS = 512


class Strict(BaseModel):
    """A body that refuses fields it does not know."""

    model_config = ConfigDict(extra="forbid")


class TextItem(Strict):
    """One text with what the caller knows of it."""

    text: str = Field(description="Any text, in any mix of languages.")
    id: str | None = Field(default=None, max_length=256, description="Comes back with the result.")
    language: str | None = Field(default=None, description="Pins the adapter; left out, the text is routed.")


class TagOptions(Strict):
    """What may be asked of the answer's form; the query of `POST /v1/tag/stream`."""

    labels: list[str] | None = Field(default=None, description="Return only these labels.")
    min_score: float = Field(
        default=0.0, ge=0.0, le=1.0, allow_inf_nan=False, description="Leave out entities below it."
    )
    offsets: Literal["codepoint", "utf16"] = Field(
        default="codepoint", description="Unit of all offsets: Python's, or JavaScript's and Java's."
    )
    explain: bool = Field(default=False, description="Return the retrieved examples of each sentence.")
    taught_seq: str | None = Field(
        default=None,
        pattern=SEQ_PATTERN,
        description="From an answer of `/v1/examples`: be answered with what it taught, or with 503.",
    )

    def options(self) -> AnswerOptions:
        """Returns the form of the answer that was asked for."""
        return AnswerOptions(
            labels=None if self.labels is None else frozenset(self.labels),
            min_score=self.min_score,
            offsets=self.offsets,
            explain=self.explain,
        )


class TagRequest(TagOptions):
    """The body of `POST /v1/tag`."""

    texts: Annotated[list[str | TextItem], Field(min_length=1, max_length=MAX_TEXTS)]

    def inputs(self) -> list[TextInput]:
        """Returns the texts as the tagger takes them."""
        return [
            TextInput(text=item)
            if isinstance(item, str)
            else TextInput(text=item.text, id=item.id, language=item.language)
            for item in self.texts
        ]


class ErrorBody(BaseModel):
    """The one shape of every error."""

    code: str = Field(description="Machine-readable, such as `unknown_language`.")
    message: str = Field(description="What was given and what was expected.")
    what_to_do: str


class EntityOut(Strict):
    """One mention; offsets are those of the text that was sent."""

    start_char: int
    end_char: int
    text: str
    label: str
    score: float = Field(description="The model's own probability, in [0, 1].")


class EntityExampleOut(Strict):
    """A retrieved mention."""

    mention: str
    label: str
    similarity: float
    taught: str | None = Field(default=None, description="Id of the taught example it is from.")


class MentionOut(Strict):
    """A gold mention of a retrieved sentence."""

    text: str
    label: str


class ContextExampleOut(Strict):
    """A retrieved sentence."""

    text: str
    similarity: float
    entities: list[MentionOut]
    taught: str | None = Field(default=None, description="Id of the taught example that it is.")


class ExamplesOut(Strict):
    """What retrieval found, strongest first."""

    entity: list[EntityExampleOut]
    context: list[ContextExampleOut]


class SentenceOut(Strict):
    """One sentence: where it stands and which adapter tagged it."""

    start_char: int
    end_char: int
    language: str
    adapter: str
    composition: Literal["selection", "mixture", "fusion"]
    ranking: list[tuple[str, float]] = Field(description="Languages, best first.")
    margin: float
    examples_dropped: int
    examples: ExamplesOut | None = Field(default=None, description="Only with `explain`.")


class ResultOut(Strict):
    """The answer for one text."""

    id: str | None = None
    entities: list[EntityOut]
    sentences: list[SentenceOut]


class TagAnswer(Strict):
    """The answer of `POST /v1/tag`."""

    release: int = Field(description="The release that answered.")
    results: list[ResultOut] = Field(description="One per text, in order.")


class LanguageOut(Strict):
    """A language of the release."""

    language: str
    labels: list[str]
    examples: bool = Field(description="Whether the language has an index to retrieve from.")


class LanguagesAnswer(Strict):
    """The answer of `GET /v1/languages`."""

    release: int
    languages: list[LanguageOut]


class AdapterOut(BaseModel):
    """An adapter of the release, from its card."""

    digest: str
    language: str
    index: str | None
    labels: list[str]
    strategy: str
    base_model: str
    base_digest: str
    corpus: str
    synthetic: bool
    licence: str
    dev: dict[str, float] | None
    calibration: Literal["uncalibrated"] | list[tuple[float, float]]
    created_at: str


class AdaptersAnswer(Strict):
    """The answer of `GET /v1/adapters`."""

    release: int
    adapters: list[AdapterOut]


class ReplicaOut(Strict):
    """What one replica said last of what it holds."""

    stage: Literal["router", "retriever", "generator"]
    replica: str
    releases: list[int] = Field(description="Releases that are open, oldest first.")
    adapters: list[str] = Field(description="Digests of the adapters in the generator's memory.")
    faults: dict[str, str] = Field(description="What it cannot answer, by language.")
    seen_s_ago: float


class ReplicasAnswer(Strict):
    """The answer of `GET /v1/replicas`."""

    release: int | None = Field(description="The release that requests are answered for now, if any.")
    problem: str | None = Field(description="Why the newest release is not that one, if it is not.")
    faults: dict[str, str] = Field(description="What is wrong with which language of it.")
    replicas: list[ReplicaOut] = Field(description="Those heard of within a minute by this ingress.")


class ReadyAnswer(Strict):
    """The answer of `GET /readyz`."""

    status: Literal["ready", "degraded"]
    release: int = Field(description="The release that requests are answered for now.")


class ReloadAnswer(Strict):
    """The answer of `POST /v1/adapters/{language}/reload`."""

    release: int
    language: str
    adapter: str
    index: str | None
