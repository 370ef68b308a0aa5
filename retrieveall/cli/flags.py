"""Flags that several commands share. Choices are spelled out here so that help imports nothing heavy."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

FormatChoice = Literal["conll", "jsonl", "parquet", "hf", "sample"]
SchemeChoice = Literal["auto", "iob1", "iob2", "bioes", "io"]
JoiningChoice = Literal["auto", "spaced", "unspaced", "characters"]
SplitChoice = Literal["train", "dev", "test"]
FormChoice = Literal["tokenised", "detokenised"]
RoutingChoice = Literal["linear", "vote", "centroid", "langid"]
RoutingOrOracle = Literal["linear", "vote", "centroid", "langid", "oracle"]
IndexKindChoice = Literal["auto", "flat", "ivf", "hnsw"]
OffsetsChoice = Literal["codepoint", "utf16"]
StrategyChoice = Literal["monolingual", "polyglot", "polyglot_then_monolingual", "leave_language_out"]
OnOff = Literal["on", "off"]
InputFormatChoice = Literal["parquet", "jsonl", "csv", "tsv", "text"]

WorkspaceFlag = Annotated[
    str,
    typer.Option(
        envvar="RETRIEVEALL_WORKSPACE",
        help="Folder or pyarrow filesystem URI (s3://…, gs://…) that holds all state.",
    ),
]
DebugFlag = Annotated[
    bool, typer.Option("--debug", envvar="RETRIEVEALL_DEBUG", help="Show the traceback of an error.")
]
JsonFlag = Annotated[
    bool,
    typer.Option("--json", envvar="RETRIEVEALL_JSON", help="Print one JSON value to stdout, nothing else."),
]
CorpusFlag = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Corpus name; needed where a language has more than one corpus."),
]
LanguagesFlag = Annotated[
    str | None,
    typer.Option(metavar="nl,de", help="Languages, comma-separated. [default: all that there are]"),
]
ExamplesFlag = Annotated[
    OnOff,
    typer.Option(help="Show retrieved examples in the prompts of adapters that were trained with them."),
]
ReleaseFlag = Annotated[int | None, typer.Option(help="Number of the release. [default: the current one]")]
ThreadsFlag = Annotated[int, typer.Option(help="Threads of torch on a CPU.")]
StrategyFlag = Annotated[
    StrategyChoice,
    typer.Option(
        help="An adapter per language; one for all; that one continued per language; or per language one of"
        " all the others, continued on it."
    ),
]
BaseModelFlag = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="tiny (ships with the package), a folder, or a Hugging Face id such as Qwen/Qwen3-1.7B; fixed"
        " by the first index or train. [default: the workspace's, else tiny]",
    ),
]


def split_list(text: str | None) -> tuple[str, ...]:
    """Returns the items of a comma-separated flag; nothing given is an empty tuple."""
    return tuple(item.strip() for item in (text or "").split(",") if item.strip())
