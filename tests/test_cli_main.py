from __future__ import annotations

import subprocess
import sys

import pytest

from retrieveall import __version__
from retrieveall.cli.flags import split_list
from retrieveall.cli.main import report_error
from retrieveall.errors import NotFoundError


class _WorkerError(Exception):
    """As Ray raises it: the text is a remote traceback, the error itself stands in ``cause``."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(f"ray::task()\n  File x, line 1\n{cause}")
        self.cause = cause


def test_own_errors_are_one_line_and_exit_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert report_error(NotFoundError("There is no corpus 'x'.\nImport one.")) == 2
    assert capsys.readouterr().err == "retrieveall: error: There is no corpus 'x'. Import one.\n"


def test_own_errors_are_found_inside_the_errors_of_workers(capsys: pytest.CaptureFixture[str]) -> None:
    assert report_error(_WorkerError(_WorkerError(NotFoundError("gone")))) == 2
    assert capsys.readouterr().err == "retrieveall: error: gone\n"


def test_own_errors_are_found_behind_a_cause(capsys: pytest.CaptureFixture[str]) -> None:
    error = RuntimeError("wrapped")
    error.__cause__ = NotFoundError("gone")
    assert report_error(error) == 2
    assert capsys.readouterr().err == "retrieveall: error: gone\n"


def test_other_errors_are_one_line_and_exit_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert report_error(ZeroDivisionError("division\nby zero")) == 1
    err = capsys.readouterr().err
    assert err.startswith("retrieveall: unexpected ZeroDivisionError: division by zero")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "items"), [(None, ()), ("", ()), ("nl", ("nl",)), (" nl, de ,", ("nl", "de"))]
)
def test_lists_are_split_at_commas(text: str | None, items: tuple[str, ...]) -> None:
    assert split_list(text) == items


def test_help_and_version_import_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['retrieveall', '--version']\n"
        "from retrieveall.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'ray', 'transformers', 'faiss', 'pyarrow', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert __version__ in done.stdout
