"""``retrieveall corpus``: import, list, audit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retrieveall.cli.flags import (
    CorpusFlag,
    FormatChoice,
    FormChoice,
    JoiningChoice,
    JsonFlag,
    LanguagesFlag,
    SchemeChoice,
    SplitChoice,
    split_list,
)
from retrieveall.cli.groups import grouped
from retrieveall.cli.output import libraries_on_stderr, note, print_json, print_line, print_table
from retrieveall.cli.progress import progress_bar
from retrieveall.cli.session import Session

if TYPE_CHECKING:
    from retrieveall.corpus import (
        ConllFormat,
        CorpusAudit,
        CorpusManifest,
        CorpusStore,
        HuggingFaceFormat,
        ImportOptions,
        ImportReport,
        TagReading,
    )
    from retrieveall.workspace import Workspace

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Import tagged text, list what there is, audit it."
)

_SHOWN_PROBLEMS = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class KeepFlags:
    """What of the source becomes the corpus."""

    label_map: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help='JSON {"PER": ["PERSON", …], …}; other types are listed and dropped.'
        ),
    ] = None
    split: Annotated[SplitChoice | None, typer.Option(help="The split that a single file is.")] = None
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="List broken sentences and go on.")] = False
    force: Annotated[
        bool, typer.Option("--force", help="Replace a different corpus of this name and language.")
    ] = False
    detokenise: Annotated[
        bool, typer.Option(help="Also keep each sentence as people write it (`Paris.`, not `Paris .`).")
    ] = True


@dataclass(frozen=True, kw_only=True, slots=True)
class TagFlags:
    """How tokens and tags are read from conll and hf."""

    scheme: Annotated[SchemeChoice, typer.Option(help="conll, hf: how tags mark a mention.")] = "auto"
    repair_tags: Annotated[
        bool, typer.Option("--repair-tags", help="conll, hf: read forbidden tags as conlleval does; counted.")
    ] = False
    joining: Annotated[JoiningChoice, typer.Option(help="conll, hf: how tokens become text.")] = "auto"
    config: Annotated[str | None, typer.Option(help="hf: configuration. [default: the language's]")] = None
    token_column: Annotated[
        str | None, typer.Option(help="conll: number from 0, negative from the end [default: 0]; hf: name.")
    ] = None
    tag_column: Annotated[
        str | None, typer.Option(help="conll: number [default: -1]; hf: name. [default: found by its type]")
    ] = None

    def reading(self) -> TagReading:
        """Returns how tags become mentions and tokens text."""
        from retrieveall.corpus import TagReading

        return TagReading(scheme=self.scheme, repair_tags=self.repair_tags, joining=self.joining)

    def conll(self) -> ConllFormat:
        """Returns the layout of a CoNLL file.

        Raises:
            InputError: A column is no number.
        """
        from retrieveall.corpus import ConllFormat

        token, tag = _column(self.token_column, 0), _column(self.tag_column, -1)
        return ConllFormat(token_column=token, tag_column=tag, reading=self.reading())

    def huggingface(self) -> HuggingFaceFormat:
        """Returns the layout of a Hugging Face data set."""
        from retrieveall.corpus import HuggingFaceFormat

        return HuggingFaceFormat(
            config=self.config,
            token_column=self.token_column,
            tag_column=self.tag_column,
            reading=self.reading(),
        )


@app.command("import")
@grouped
def import_(
    context: typer.Context,
    path: Annotated[
        str,
        typer.Argument(
            metavar="PATH",
            help="A file, a folder with train/dev/test files, (hf) a data set's name, or sample.",
        ),
    ],
    format: Annotated[FormatChoice, typer.Option(help="What PATH holds.")],
    keep: KeepFlags,
    tags: TagFlags,
    language: Annotated[
        str | None,
        typer.Option(
            help="BCP-47 code of the sentences, such as nl or zh-hans; sample: one of its languages."
            " [default of sample: all eight]"
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="What the corpus is called from now on. [default of sample: sample]")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Imports one language of a corpus, or the sample corpus that ships with the package.

    The same content again changes nothing. Nothing is dropped silently: broken lines stop the import with
    file and line, or are counted and listed with --skip-bad; types that the label map leaves out are listed.

    \b
    Examples:
      retrieveall corpus import data/nl --format conll --language nl --name panx
      retrieveall corpus import news.jsonl --format jsonl --language de --name news --label-map map.json
      retrieveall corpus import unimelb-nlp/wikiann --format hf --language sw --name wikiann
      retrieveall corpus import sample --format sample
    """
    from retrieveall.corpus import ConllFormat, ImportOptions

    options = ImportOptions(
        **asdict(keep),
        conll=tags.conll() if format == "conll" else ConllFormat(),  # columns of hf are names
        huggingface=tags.huggingface(),
    )
    languages, name = _wanted(format, language, name)
    with libraries_on_stderr():
        corpora = Session.of(context).open(create=True).corpora
        reports = [_import(corpora, path, format, code, name, options) for code in languages]
    if as_json:
        print_json([report.to_dict() for report in reports] if language is None else reports[0].to_dict())
        return
    for report in reports:
        _show_import(report)


def _wanted(format: FormatChoice, language: str | None, name: str | None) -> tuple[tuple[str, ...], str]:
    """Returns the languages to import and the corpus's name; only the sample corpus has defaults.

    Raises:
        InputError: Language or name is missing.
    """
    from retrieveall.corpus.sample import sample_languages
    from retrieveall.errors import InputError

    if format == "sample":
        return (sample_languages() if language is None else (language,)), name or "sample"
    if language is None or name is None:
        raise InputError(f"The format {format} needs --language and --name, such as nl and mine.")
    return (language,), name


def _import(
    corpora: CorpusStore, path: str, format: FormatChoice, language: str, name: str, options: ImportOptions
) -> ImportReport:
    from retrieveall.corpus import import_corpus

    with progress_bar(f"importing {name}/{language}") as move:
        return import_corpus(
            corpora,
            path,
            format=format,
            language=language,
            name=name,
            options=options,
            progress=lambda done: move(done, 0),
        )


def _column(text: str | None, default: int) -> int:
    from retrieveall.errors import InputError

    try:
        return default if text is None else int(text)
    except ValueError:
        raise InputError(
            f"The column {text!r} was given; columns of conll files are numbers, 0 is the first, -1 the last."
        ) from None


def _show_import(report: ImportReport) -> None:
    state = "unchanged" if report.unchanged else "imported"
    print_line(f"{report.name}/{report.language} {state}, digest {report.digest}")
    print_table(["split", "sentences"], [[split, count] for split, count in report.sentences.items()])
    print_table(["label", "entities"], [[label, count] for label, count in report.entities.items()])
    for label, count in report.unmapped.items():
        print_line(f"left out by the label map: {label}, {count} mentions")
    for what, count in report.notes.items():
        print_line(f"{what}: {count}")
    if report.empty:
        print_line(f"sentences without a visible character, left out: {report.empty}")
    if report.problems:
        print_line(f"broken sentences, left out: {len(report.problems)}")
    for problem in report.problems[:_SHOWN_PROBLEMS]:
        print_line(f"  {problem}")
    if len(report.problems) > _SHOWN_PROBLEMS:
        print_line(f"  and {len(report.problems) - _SHOWN_PROBLEMS} more (--json lists all)")


@app.command("list")
def list_(context: typer.Context, as_json: JsonFlag = False) -> None:
    """Lists the corpora of the workspace."""
    corpora = Session.of(context).open().corpora.list()
    if as_json:
        print_json([manifest.to_dict() for manifest in corpora])
    elif corpora:
        columns = ["corpus", "language", "train", "dev", "test", "labels", "digest", ""]
        print_table(columns, [_row(manifest) for manifest in corpora])
    else:
        note("There are no corpora yet: retrieveall corpus import --help")


def _row(manifest: CorpusManifest) -> list[object]:
    sizes = [manifest.sentences.get(split, 0) for split in ("train", "dev", "test")]
    synthetic = "synthetic" if manifest.synthetic else ""
    return [manifest.name, manifest.language, *sizes, " ".join(manifest.labels), manifest.digest, synthetic]


@app.command()
def audit(
    context: typer.Context,
    corpus: CorpusFlag = None,
    languages: LanguagesFlag = None,
    form: Annotated[
        FormChoice, typer.Option(help="The corpus's own tokens joined, or the text as people write it.")
    ] = "tokenised",
    base_model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Base whose tokenizer is counted: tiny, a folder, a Hugging Face id, or none."
            " [default: the workspace's, else tiny]",
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Shows what a corpus is like before anything is trained on it.

    Sizes, labels, lengths, how much of dev and test stands in train too, gold mentions that the mention rule
    cannot express, and into how many pieces the base model's tokenizer cuts a token.
    """
    from retrieveall.corpus import audit_corpus

    workspace = Session.of(context).open()
    store = workspace.corpora
    audits = []
    with libraries_on_stderr():
        count_tokens = _token_counter(workspace, base_model)
        for key in store.resolve(corpus, split_list(languages) or None):
            with progress_bar(f"auditing {key.name}/{key.language}"):
                audits.append(
                    audit_corpus(store, key.name, key.language, form=form, count_tokens=count_tokens)
                )
    if as_json:
        print_json([audit.to_dict() for audit in audits])
    for found in () if as_json else audits:
        _show_audit(found)


def _token_counter(workspace: Workspace, base_model: str | None) -> Callable[[str], int] | None:
    """Returns what counts the pieces of a text, None where nothing shall be counted."""
    from retrieveall.models.base import TINY, open_tokenizer

    if base_model == "none":
        return None
    tokenizer = open_tokenizer(base_model or workspace.state().base_model or TINY)
    return lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"])


_AUDIT_COLUMNS = (
    "split", "sentences", "entities", "labels", "no entity", "tokens", "short", "in train", "inexpressible",
    "pieces/token",
)  # fmt: skip


def _show_audit(audit: CorpusAudit) -> None:
    mark = " (SYNTHETIC)" if audit.synthetic else ""
    rows = [
        [
            split, one.sentences, one.entities, " ".join(f"{k}:{v}" for k, v in one.labels.items()),
            one.without_entities, one.tokens.mean, one.short, one.in_train, one.inexpressible,
            "" if one.fertility is None else one.fertility.per_token,
        ]
        for split, one in audit.splits.items()
    ]  # fmt: skip
    print_table(_AUDIT_COLUMNS, rows, title=f"{audit.name}/{audit.language}{mark}, {audit.form}")
    for split, labels in audit.novel_labels.items():
        if labels:
            print_line(f"{split} has labels that do not stand in train: {', '.join(labels)}")
    for split, one in audit.splits.items():
        for example in one.inexpressible_examples:
            print_line(f"inexpressible in {split}: {example}")
