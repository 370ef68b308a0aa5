"""Every command: its help, its flags' environment twins, and its way through a small workspace."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from retrieveall.cli.main import app
from retrieveall.corpus.sample import sample_languages
from retrieveall.errors import ConfigError, InputError, NotFoundError, RetrieveAllError
from retrieveall.models.digest import base_digest
from retrieveall.workspace import Workspace
from tests.models import save_tiny_base
from tests.workspaces import random_workspace

CONLL = "Anna\tB-PER\nlebt\tO\nin\tO\nBern\tB-LOC\n.\tO\n\nEs\tO\nregnet\tO\n.\tO\n"
BROKEN = CONLL + "\nkaputt\n"


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        if not hasattr(command, "commands") or command.invoke_without_command:
            yield (*path, name), command


COMMANDS = dict(commands(typer.main.get_command(app)))
UNENDING = {("serve",), ("submit", "logs")}  # they print what happens, and no report


def run(workspace: Path, *arguments: str, **environment: str) -> Any:
    """Runs a command and returns its result; errors of ours are raised."""
    result = CliRunner().invoke(app, ["--workspace", str(workspace), *arguments], env=environment)
    if isinstance(result.exception, RetrieveAllError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


def printed(workspace: Path, *arguments: str) -> Any:
    return json.loads(run(workspace, *arguments, "--json").stdout)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    for split in ("train", "dev", "test"):
        (folder / f"{split}.conll").write_text(CONLL, encoding="utf-8")
    return folder


def import_corpus(workspace: Path, source: Path, *more: str) -> Any:
    flags = ("--format", "conll", "--language", "de", "--name", "mini")
    return printed(workspace, "corpus", "import", str(source), *flags, *more)


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_explains_every_flag_and_names_its_environment_twin(path: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, [*path, "--help"], terminal_width=300)

    assert result.exit_code == 0
    for option in COMMANDS[path].params:
        if option.param_type_name == "option" and option.name != "help":
            assert option.help, option.name
            twin = option.envvar or f"RETRIEVEALL_{'_'.join(path)}_{option.name}".replace("-", "_").upper()
            assert f"env var: {twin}" in " ".join(result.output.split()), option.name


def test_import_list_and_audit_agree(tmp_path: Path, source: Path) -> None:
    workspace = tmp_path / "w"
    report = import_corpus(workspace, source)
    again = import_corpus(workspace, source)
    (listed,) = printed(workspace, "corpus", "list")
    (audit,) = printed(workspace, "corpus", "audit", "--base-model", "none")

    assert report["sentences"] == {"train": 2, "dev": 2, "test": 2}
    assert report["entities"] == {"PER": 3, "LOC": 3}
    assert again["unchanged"] is True
    assert listed["digest"] == audit["digest"] == report["digest"]
    assert audit["splits"]["test"]["in_train"] == 1.0


def test_the_audit_counts_with_the_tokenizer_of_the_workspaces_base(tmp_path: Path, source: Path) -> None:
    workspace = tmp_path / "w"
    import_corpus(workspace, source)
    (unclaimed,) = printed(workspace, "corpus", "audit")
    (tiny,) = printed(workspace, "corpus", "audit", "--base-model", "tiny")
    base = save_tiny_base(tmp_path / "base")
    Workspace.open(str(workspace)).claim_base(str(base), base_digest(base))
    (own,) = printed(workspace, "corpus", "audit")
    (named,) = printed(workspace, "corpus", "audit", "--base-model", str(base))

    assert unclaimed == tiny != own == named


@pytest.mark.parametrize("path", sorted(COMMANDS.keys() - UNENDING), ids=" ".join)
def test_every_command_that_reports_takes_json(path: tuple[str, ...]) -> None:
    assert "--json" in [flag for option in COMMANDS[path].params for flag in option.opts]


def test_a_card_is_shown_to_people_and_as_json(tmp_path: Path) -> None:
    workspace = random_workspace(tmp_path, ("de",))
    (listed,) = workspace.pool.list()
    reference = f"de@{listed.digest}"

    assert printed(tmp_path / "workspace", "adapters", "show", reference) == listed.to_dict()
    shown = run(tmp_path / "workspace", "adapters", "show", reference).stdout
    assert listed.digest in shown and listed.card.strategy in shown


def test_adapters_that_cannot_be_measured_again_stay_and_say_why(tmp_path: Path) -> None:
    workspace = random_workspace(tmp_path, ("de", "en"))
    report = printed(tmp_path / "workspace", "adapters", "remeasure", "de")
    assert [one["languages"] for one in report["adapters"]] == [["de"]]
    assert report["adapters"][0]["reason"] and report["adapters"][0]["after"] is None
    shown = run(tmp_path / "workspace", "adapters", "remeasure").stdout
    assert "as it is" in shown and shown.endswith("no new release\n")
    assert workspace.releases.current().number == 1


def test_tables_are_printed_without_json(tmp_path: Path, source: Path) -> None:
    import_corpus(tmp_path / "w", source)

    assert "mini" in run(tmp_path / "w", "corpus", "list").stdout
    assert "LOC:1 PER:1" in run(tmp_path / "w", "corpus", "audit", "--base-model", "none").stdout.replace(
        "PER:1 LOC:1", "LOC:1 PER:1"
    )


def test_types_left_out_by_the_label_map_are_listed(tmp_path: Path, source: Path) -> None:
    label_map = tmp_path / "map.json"
    label_map.write_text('{"PERSON": ["PER"]}', encoding="utf-8")

    report = import_corpus(tmp_path / "w", source, "--label-map", str(label_map))

    assert report["entities"] == {"PERSON": 3}
    assert report["unmapped"] == {"LOC": 3}


def test_broken_lines_stop_the_import_or_are_listed(tmp_path: Path, source: Path) -> None:
    (source / "train.conll").write_text(BROKEN, encoding="utf-8")

    with pytest.raises(InputError, match=r"train\.conll:11"):
        import_corpus(tmp_path / "w", source)
    report = import_corpus(tmp_path / "w", source, "--skip-bad")

    assert report["skipped"] == 1
    assert "train.conll:11" in report["problems"][0]


def test_the_sample_corpus_is_imported_by_name_in_one_language_or_all(tmp_path: Path) -> None:
    flags = ("corpus", "import", "sample", "--format", "sample")
    one = printed(tmp_path / "w", *flags, "--language", "en")
    reports = printed(tmp_path / "w", *flags)

    assert (one["name"], one["language"]) == ("sample", "en")
    assert [report["language"] for report in reports] == list(sample_languages())
    assert [report["unchanged"] for report in reports if report["language"] == "en"] == [True]
    assert all(corpus["synthetic"] for corpus in printed(tmp_path / "w", "corpus", "list"))


@pytest.mark.parametrize("missing", ["--language", "--name"])
def test_other_formats_need_language_and_name(tmp_path: Path, source: Path, missing: str) -> None:
    given = {"--language": "de", "--name": "mini"}
    given.pop(missing)
    words = [word for pair in given.items() for word in pair]
    with pytest.raises(InputError, match="needs --language and --name"):
        run(tmp_path / "w", "corpus", "import", str(source), "--format", "conll", *words)


def test_a_column_that_is_no_number_is_refused(tmp_path: Path, source: Path) -> None:
    with pytest.raises(InputError, match="columns of conll files are numbers"):
        import_corpus(tmp_path / "w", source, "--tag-column", "ner")


def test_flags_can_be_given_by_the_environment(tmp_path: Path, source: Path) -> None:
    result = CliRunner().invoke(
        app,
        ["corpus", "import", str(source)],
        env={
            "RETRIEVEALL_WORKSPACE": str(tmp_path / "w"),
            "RETRIEVEALL_CORPUS_IMPORT_FORMAT": "conll",
            "RETRIEVEALL_CORPUS_IMPORT_LANGUAGE": "de",
            "RETRIEVEALL_CORPUS_IMPORT_NAME": "mini",
            "RETRIEVEALL_JSON": "1",
        },
    )
    assert json.loads(result.stdout)["name"] == "mini"


@pytest.mark.parametrize(
    "arguments",
    ["corpus list", "corpus audit", "adapters list", "adapters rollback", "adapters remove de", "gc"],
)
def test_reading_commands_never_make_a_workspace(tmp_path: Path, arguments: str) -> None:
    with pytest.raises(NotFoundError):
        run(tmp_path / "w", *arguments.split())
    assert not (tmp_path / "w").exists()


def test_an_empty_pool_is_listed_as_empty(tmp_path: Path, source: Path) -> None:
    import_corpus(tmp_path / "w", source)

    assert printed(tmp_path / "w", "adapters", "list")["adapters"] == []
    assert printed(tmp_path / "w", "gc")["removed"] == []


@pytest.mark.parametrize("reference", ["nl", "nl@", "nl@xyz", "../x@0123456789abcdef"])
def test_adapter_references_are_checked(tmp_path: Path, source: Path, reference: str) -> None:
    import_corpus(tmp_path / "w", source)
    with pytest.raises(InputError):
        run(tmp_path / "w", "adapters", "pin", reference)


def test_a_report_that_could_not_be_written_is_refused_before_the_evaluation(
    tmp_path: Path, source: Path
) -> None:
    workspace = tmp_path / "workspace"
    import_corpus(workspace, source)
    with pytest.raises(InputError, match="report name 'de,en' was given"):  # there is no release either
        run(workspace, "eval", "--name", "de,en")


def test_a_pack_of_languages_cannot_have_several_workers(tmp_path: Path, source: Path) -> None:
    import_corpus(tmp_path / "w", source)
    with pytest.raises(ConfigError, match="--packed"):
        run(tmp_path / "w", "train", "--packed", "--workers-per-language", "2")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("tag", "No text was given"),
        ("tag --input a.txt", "--input and --output belong together"),
        ("tag --output out", "--input and --output belong together"),
        ("tag Text --input a.txt --output out", "Texts and --input were given"),
        ("tag --input a.txt --output out --explain", "--explain and --offsets are for texts"),
        ("tag --input a.txt --output out --export xml", "'xml' was given; choose from jsonl"),
        ("tag --input a.txt --output out --rows-per-fragment 0", "expected 1 or more"),
    ],
)
def test_flags_of_tag_are_checked_before_any_work(
    tmp_path: Path, source: Path, arguments: str, message: str
) -> None:
    import_corpus(tmp_path / "w", source)
    with pytest.raises(InputError, match=message):
        run(tmp_path / "w", *arguments.split())
