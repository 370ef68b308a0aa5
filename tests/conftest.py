"""What all tests share: process settings, and the rule that continuous integration skips no real corpus.

Tests on real corpora skip with a reason that names RETRIEVEALL_TEST_DATA. With
RETRIEVEALL_TEST_DATA_REQUIRED=1 such a skip is a failure.
"""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest
from hypothesis import settings

for _name, _value in {
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "RAY_AUTH_MODE": "disabled",
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "serve_apps.proxy:middlewares",
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "30",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TOKENIZERS_PARALLELISM": "false",
}.items():
    os.environ.setdefault(_name, _value)

# Machines that test are shared and slow, so examples have no deadline; the same examples every time
# keep continuous integration steady. HYPOTHESIS_PROFILE=explore draws fresh ones.
settings.register_profile("steady", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))

REQUIRED = os.environ.get("RETRIEVEALL_TEST_DATA_REQUIRED") == "1"


def _forbid_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if REQUIRED and report.skipped and "RETRIEVEALL_TEST_DATA" in str(report.longrepr):
        report.outcome = "failed"
        report.longrepr = f"Skipped although RETRIEVEALL_TEST_DATA_REQUIRED=1: {report.longrepr}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turns the skip of a test into a failure where the data is required."""
    report = yield
    _forbid_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for modules that skip as a whole."""
    report = yield
    _forbid_skip(report)
    return report
