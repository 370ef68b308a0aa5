"""``retrieveall tag``: texts of the command line; files with `retrieveall.cli.tag_files`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import typer

from retrieveall.cli.flags import (
    ExamplesFlag,
    InputFormatChoice,
    JsonFlag,
    OffsetsChoice,
    ReleaseFlag,
    RoutingChoice,
    ThreadsFlag,
    split_list,
)
from retrieveall.cli.groups import grouped
from retrieveall.cli.output import libraries_on_stderr, print_json, print_line, print_table
from retrieveall.cli.progress import progress_bar
from retrieveall.cli.session import Session
from retrieveall.cli.tag_files import TagFilesRequest, tag_files
from retrieveall.errors import InputError


@dataclass(frozen=True, kw_only=True, slots=True)
class FileFlags:
    """Files instead of texts."""

    input: Annotated[
        str | None,
        typer.Option(
            metavar="PATH", help="Tag a file, or all files of a folder, instead of texts; a path or a URI."
        ),
    ] = None
    output: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Where tagged files go, with --input; path or URI.")
    ] = None
    format: Annotated[
        InputFormatChoice | None, typer.Option(help="Of the input's files. [default: by their endings]")
    ] = None
    text_column: Annotated[
        str, typer.Option(metavar="NAME", help="Column of the input that holds the texts.")
    ] = "text"
    language_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Column of the input that names each row's language.")
    ] = None
    export: Annotated[
        str | None,
        typer.Option(
            metavar="FORMAT,…", help="Also write jsonl, conll, spacy, label-studio or displacy, with --input."
        ),
    ] = None
    rows_per_fragment: Annotated[
        int, typer.Option(help="Rows of one output file, with --input; what a killed job does again.")
    ] = 1000
    actors: Annotated[
        int | None, typer.Option(help="Most workers, with --input. [default: as many as CPUs and GPUs hold]")
    ] = None
    gpus_per_actor: Annotated[
        float | None,
        typer.Option(help="GPUs of one worker, with --input. [default: 1 where there is one, else 0]"),
    ] = None


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswerFlags:
    """How texts are tagged, and what of it is answered."""

    language: Annotated[
        str | None, typer.Option(help="Language of all texts. [default: each sentence is routed]")
    ] = None
    labels: Annotated[
        str | None, typer.Option(metavar="PER,LOC", help="Only these labels. [default: all]")
    ] = None
    min_score: Annotated[float, typer.Option(help="Leave out entities below it, 0 to 1.")] = 0.0
    offsets: Annotated[
        OffsetsChoice, typer.Option(help="Unit of offsets: Unicode code points or UTF-16 code units.")
    ] = "codepoint"
    explain: Annotated[bool, typer.Option("--explain", help="Also show the retrieved examples.")] = False
    routing: Annotated[
        RoutingChoice | None, typer.Option(help="How adapters are chosen. [default: the workspace's, linear]")
    ] = None
    examples: ExamplesFlag = "on"
    namespace: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Also find the examples taught in it, and the shared ones."),
    ] = None
    release: ReleaseFlag = None
    threads: ThreadsFlag = 1


@grouped
def tag(
    context: typer.Context,
    *,
    texts: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TEXT…]", help="Texts to tag; - reads one text a line from stdin."),
    ] = None,
    files: FileFlags,
    answer: AnswerFlags,
    as_json: JsonFlag = False,
) -> None:
    """Tags texts in any mix of the release's languages; --json prints the body of `POST /v1/tag`.

    With --input it tags files of any size (Parquet, JSONL, CSV, TSV, text) on all CPUs, or on the cluster
    that RAY_ADDRESS names, into Parquet. A killed job goes on where it stopped; the same command again
    tags nothing twice.

    \b
    Examples:
      retrieveall tag "Angela Merkel met Barack Obama in Berlin." "Она живёт в Москве."
      retrieveall tag --json --labels PER - < lines.txt
      retrieveall tag --input news.jsonl --output tagged --text-column body
      retrieveall tag --input s3://bucket/texts --output s3://bucket/tagged --export conll,displacy
    """
    if files.input is not None or files.output is not None:
        _tag_files(context, texts or (), files, answer, as_json=as_json)
    else:
        _tag_texts(context, texts or (), answer, as_json=as_json)


def _tag_files(
    context: typer.Context, texts: Sequence[str], files: FileFlags, answer: AnswerFlags, *, as_json: bool
) -> None:
    if answer.namespace is not None:
        raise InputError(
            "--namespace was given with --input. Files are tagged by a release alone, so that a job which is"
            " started again answers the same; `retrieveall index compact` brings shared examples into one."
        )
    given = {**asdict(files), **asdict(answer)}
    del given["namespace"]
    exports = split_list(given.pop("export"))
    changed = {"labels": split_list(answer.labels), "examples": answer.examples == "on"}
    request = TagFilesRequest(texts=tuple(texts), exports=exports, **{**given, **changed})
    tag_files(Session.of(context).open(), request, as_json=as_json)


def _tag_texts(context: typer.Context, texts: Sequence[str], answer: AnswerFlags, *, as_json: bool) -> None:
    if not texts:
        raise InputError("No text was given. Give texts, - for lines of stdin, or --input and --output.")
    from retrieveall.answer import AnswerOptions, answer_body
    from retrieveall.opening import OpenOptions, open_tagger
    from retrieveall.tagger import TextInput

    wanted = _read(texts)
    options = AnswerOptions(
        labels=frozenset(split_list(answer.labels)) or None,
        min_score=answer.min_score,
        offsets=answer.offsets,
        explain=answer.explain,
    )
    opening = OpenOptions(
        release=answer.release,
        routing=answer.routing,
        examples=answer.examples == "on",
        namespace=answer.namespace,
        threads=answer.threads,
    )
    with libraries_on_stderr(), progress_bar("tagging"):
        inputs = [TextInput(text=text, language=answer.language) for text in wanted]
        with open_tagger(Session.of(context).open(), opening) as opened:
            tagged = opened.tagger.tag(inputs, explain=answer.explain)
            body = answer_body(opened.tagger.release, wanted, tagged, options)
    if as_json:
        print_json(body)
    else:
        show_answer(wanted, body)


def _read(texts: Sequence[str]) -> list[str]:
    if list(texts) != ["-"]:
        return list(texts)
    return [line.rstrip("\n") for line in sys.stdin]


def show_answer(texts: Sequence[str], body: Mapping[str, Any]) -> None:
    """Prints each text, where its sentences went, and its entities.

    Args:
        texts: N texts.
        body: What `retrieveall.answer.answer_body` made of them.
    """
    for text, result in zip(texts, body["results"], strict=True):
        routes = ", ".join(dict.fromkeys(map(_route, result["sentences"]))) or "nothing to tag"
        print_line(f"\n{text}\n  → {routes}")
        entities = result["entities"]
        if entities:
            rows = [
                [e["label"], e["text"], f"{e['start_char']}-{e['end_char']}", e["score"]] for e in entities
            ]
            print_table(["label", "entity", "characters", "score"], rows)
        for sentence in result["sentences"]:
            _show_examples(sentence.get("examples"))
    print_line(f"\nrelease {body['release']}")


def _route(sentence: Mapping[str, Any]) -> str:
    how = "" if sentence["composition"] == "selection" else f" ({sentence['composition']})"
    return f"{sentence['language']}{how}"


def _show_examples(examples: Mapping[str, Any] | None) -> None:
    for example in (examples or {}).get("entity", ()):
        print_line(f"  example {example['similarity']:.2f}  {example['mention']} → {example['label']}")
    for example in (examples or {}).get("context", ()):
        print_line(f"  example {example['similarity']:.2f}  {example['text']}")
