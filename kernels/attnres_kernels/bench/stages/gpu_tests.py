"""The kernels' tests, on the GPU: a row for each outcome."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[4]
TESTS = [ROOT / "tests" / f"test_kernels{name}.py" for name in ("", "_training")]
NEEDED = ("pytest", "hypothesis")
ONE = ["-k", "test_one_source_is_returned"]    # of a dry run: others run in CI anyway


class Rows:
    """A plugin of pytest that writes down every outcome as it comes."""

    def __init__(self, record):
        self.record = record

    def pytest_runtest_logreport(self, report):
        if report.when == "call" or report.outcome != "passed":
            name = report.nodeid.rpartition("::")[2]
            why = None if report.passed else reason(report)
            self.record.add(test=name, outcome=report.outcome, why=why)


def reason(report) -> str:
    """Why it did not pass, without the machine's paths: of a test that was skipped pytest
    tells (path, line, reason)."""
    if report.skipped:
        return report.longrepr[2]
    return str(report.longrepr)[-300:].replace(str(ROOT), ".")


def measure(record, device) -> None:
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    missing += [f"{path.name}, which an installed package does not carry"
                for path in TESTS if not path.exists()]
    if missing:
        record.add(missing=f"{', '.join(missing)}; pip install {' '.join(NEEDED)}")
        return
    import pytest  # it is not everywhere that the benchmark runs

    options = ["-q", "-p", "no:cacheprovider", "-W", "ignore", "--rootdir", str(ROOT)]
    if device.type == "cpu":
        options += ONE
    elif importlib.util.find_spec("xdist"):
        options += ["-n", "5"]             # each compiles what it tests
    exit_code = pytest.main([*options, *map(str, TESTS)], plugins=[Rows(record)])
    record.add(exit_code=int(exit_code))
