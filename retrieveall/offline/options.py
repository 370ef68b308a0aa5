"""What one tagging job is asked to do; all of it goes into the names of its output files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from retrieveall.errors import InputError
from retrieveall.frozen import to_dict
from retrieveall.offline.fragments import ROWS_PER_FRAGMENT
from retrieveall.offline.inputs import InputFormat


@dataclass(frozen=True, kw_only=True, slots=True)
class TagOptions:
    """Options of a job.

    Attributes:
        text_column: Holds the texts; what the lines of text files are called in the output.
        language_column: Holds a language per row that pins its adapter; null lets it be routed.
        language: Of all rows; None routes each sentence.
        format: Of all files; None tells it by their endings.
        labels: Only these are kept, sorted; None for all.
        min_score: Entities below it are left out, in [0, 1].
        routing: How adapters are chosen; None for the workspace's setting.
        examples: Show retrieved examples in the prompts.
        rows_per_fragment: Rows of one output file, and the most that a killed job does again per worker.

    Raises:
        InputError: A number is out of range, or two options say the same thing.
    """

    text_column: str = "text"
    language_column: str | None = None
    language: str | None = None
    format: InputFormat | None = None
    labels: tuple[str, ...] | None = None
    min_score: float = 0.0
    routing: str | None = None
    examples: bool = True
    rows_per_fragment: int = ROWS_PER_FRAGMENT

    def __post_init__(self) -> None:
        """Checks the values."""
        if self.rows_per_fragment < 1:
            raise InputError(f"{self.rows_per_fragment} rows per fragment were given; expected 1 or more.")
        if self.language is not None and self.language_column is not None:
            raise InputError(
                f"The language {self.language!r} and the language column {self.language_column!r} were"
                " given; give one of them."
            )

    def to_dict(self) -> dict[str, Any]:
        """Returns the options as JSON values."""
        return to_dict(self)
