"""What every test may ask for, and the law that no test is left out for a reason nobody has agreed to."""

import functools
import gc
import os
import re
from pathlib import Path

import hypothesis
import pytest

pytest_plugins = ["tests.conformance_files", "tests.files.hub_server", "tests.preset_fixtures"]

ROOT = Path(__file__).resolve().parent.parent

# The only reasons for which a test may be left out; anything else fails the run.
ALLOWED_SKIPS = re.compile(
    r"^(Skipped: )?(needs a GPU|needs real weights|needs Chromium|needs npm packages|no real test data)"
)

# The same examples in every run: a failure seen once is seen again.
hypothesis.settings.register_profile("deterministic", derandomize=True, deadline=None, print_blob=True)
hypothesis.settings.load_profile("deterministic")


@pytest.fixture
def shared() -> Path:
    """The folder of real test data and conformance fixtures; the test is skipped where it is absent."""
    folder = Path(os.environ.get("MORE4D_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no real test data at {folder} (set MORE4D_SHARED to its folder)")
    return folder


@pytest.fixture
def real_weights() -> Path:
    """The folder of weights too large for the repository; for tests marked `weights`."""
    return Path(os.environ["MORE4D_WEIGHTS"])


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(SkipGuard(), "skip-law")


def pytest_collection_finish(session: pytest.Session) -> None:
    """What all imports made stays: the collector need not look through it again and again."""
    gc.collect()
    gc.freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not has_gpu():
        pytest.skip("needs a GPU")
    if item.get_closest_marker("weights") and not os.environ.get("MORE4D_WEIGHTS"):
        pytest.skip("needs real weights (set MORE4D_WEIGHTS to their folder)")


@functools.cache
def has_gpu() -> bool:
    import torch  # only here: it takes seconds, and most runs have no test that asks

    return torch.cuda.is_available()


def is_allowed_skip(report: pytest.TestReport | pytest.CollectReport) -> bool:
    """Whether a skipped test gives one of the agreed reasons; an expected failure is no skip."""
    if hasattr(report, "wasxfail"):
        return True
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return ALLOWED_SKIPS.match(reason) is not None


class SkipGuard:
    """Lists what was skipped for a reason that is not agreed, and fails the run because of it."""

    def __init__(self) -> None:
        self.unexplained: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._note(report)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.unexplained and not hasattr(session.config, "workerinput"):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.unexplained:
            terminalreporter.section("skipped without an agreed reason", red=True)
            for line in self.unexplained:
                terminalreporter.line(line)

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.skipped and not is_allowed_skip(report):
            self.unexplained.append(f"{report.nodeid}: {report.longrepr}")
