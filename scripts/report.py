"""Add up pytest runs from their JUnit files and print a summary like pytest's."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Run:
    """One pytest run: test counts and duration in seconds."""

    name: str
    passed: int
    failed: int
    errors: int
    skipped: int
    duration_s: float

    def counts(self) -> str:
        counts = {"failed": self.failed, "passed": self.passed, "skipped": self.skipped, "errors": self.errors}
        return ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "no tests ran"


def summarize(folder: Path) -> list[Run]:
    """Return the runs with reports in ``folder``, in the order in which they ended."""
    reports = sorted(folder.glob("*.xml"), key=lambda path: path.stat().st_mtime_ns)
    return [_read(path) for path in reports]


def _read(path: Path) -> Run:
    suites = list(ElementTree.parse(path).getroot().iter("testsuite"))
    tests, failed, errors, skipped = (
        sum(int(suite.get(name, 0)) for suite in suites) for name in ("tests", "failures", "errors", "skipped")
    )
    duration_s = sum(float(suite.get("time", 0)) for suite in suites)
    return Run(path.stem, tests - failed - errors - skipped, failed, errors, skipped, duration_s)


def print_report(runs: Sequence[Run], failed_steps: Sequence[str], elapsed_s: float) -> None:
    print(flush=True)
    for run in runs:
        print(f"{run.name:16} {run.counts()} in {run.duration_s:.1f}s")
    if failed_steps:
        print(f"failed: {', '.join(failed_steps)}")
    total = Run(
        "all",
        passed=sum(run.passed for run in runs),
        failed=sum(run.failed for run in runs),
        errors=sum(run.errors for run in runs),
        skipped=sum(run.skipped for run in runs),
        duration_s=elapsed_s,
    )
    print(f" {total.counts()} in {elapsed_s:.2f}s ".center(80, "="), flush=True)
