"""Writes exports of a finished job: ``OUTPUT/exports/<format>/<file of the input><ending>``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, Literal

from retrieveall.errors import InputError
from retrieveall.frozen import to_dict
from retrieveall.offline.exports.conll import write_conll
from retrieveall.offline.exports.displacy import write_displacy
from retrieveall.offline.exports.docbin import check_spacy, write_docbin
from retrieveall.offline.exports.jsonl import write_jsonl
from retrieveall.offline.exports.label_studio import write_label_studio
from retrieveall.offline.exports.rows import ExportRow, OutputFile, output_files, read_rows
from retrieveall.storage import Store, temporary_name

ExportFormat = Literal["jsonl", "conll", "spacy", "label-studio", "displacy"]
EXPORTS_FOLDER: Final = "exports"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Export:
    ending: str
    write: Callable[[Iterable[ExportRow], BinaryIO], None]


EXPORTS: Final[Mapping[ExportFormat, _Export]] = {
    "jsonl": _Export(ending=".jsonl", write=write_jsonl),
    "conll": _Export(ending=".conll", write=write_conll),
    "spacy": _Export(ending=".spacy", write=write_docbin),
    "label-studio": _Export(ending=".json", write=write_label_studio),
    "displacy": _Export(ending=".html", write=write_displacy),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportOutcome:
    """One file that was written; its path is inside the output's folder."""

    format: ExportFormat
    path: str
    size_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Returns the outcome as JSON values."""
        return to_dict(self)


def check_exports(formats: Sequence[str]) -> tuple[ExportFormat, ...]:
    """Returns the formats, before any work is done, if all can be written.

    Raises:
        InputError: One is unknown.
        MissingDependencyError: One needs a package that is not installed.
    """
    unknown = [format for format in formats if format not in EXPORTS]
    if unknown:
        raise InputError(f"The export {unknown[0]!r} was given; choose from {', '.join(EXPORTS)}.")
    if "spacy" in formats:
        check_spacy()
    return tuple(format for format in EXPORTS if format in formats)


def export_corpus(output: Store, formats: Sequence[ExportFormat]) -> list[ExportOutcome]:
    """Writes a tagged corpus in other formats; older exports are replaced.

    Args:
        output: Of a finished job.
        formats: Which.

    Raises:
        MissingDependencyError: A format needs a package that is not installed.
    """
    files = output_files(output)
    return [_export(output, format, file, parts) for format in formats for file, parts in files.items()]


def _export(output: Store, format: ExportFormat, file: str, parts: Sequence[OutputFile]) -> ExportOutcome:
    export = EXPORTS[format]
    path = f"{EXPORTS_FOLDER}/{format}/{file}{export.ending}"
    target = output.full_path(path)
    folder = target.rpartition("/")[0]
    temporary = f"{folder}/{temporary_name()}"
    output.filesystem.create_dir(folder, recursive=True)
    with output.filesystem.open_output_stream(temporary) as stream:
        export.write(read_rows(output, parts), stream)
    output.filesystem.move(temporary, target)
    return ExportOutcome(format=format, path=path, size_bytes=output.size_bytes(path))
