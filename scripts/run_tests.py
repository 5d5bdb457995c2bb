"""Run all tests in two environments: ``make test``.

main       the checkout, installed in place: tests/, on the newest Python and the newest ipykernel
notebooks  the committed notebooks, run again cell by cell (nbval)
wheel      the built wheel in a separate environment, on the oldest Python, ipykernel 6 and pandas 2, with a copy
           of the tests without the source: all but tests that need a browser or the checkout, or are marked `once`
           (`wheel -- -m "not browser and not checkout"` runs those as well)

The first step prints as it runs. The others run one after another in parallel to it, since tests wait as much as
they compute, and print when they end. All steps run, even after a failure; the last lines add them up. Name steps
to run only those; arguments after ``--`` go to pytest (in `main` and `wheel`).
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ensure_chromium import ADVICE, ensure_chromium
from environment import make_environment
from pythons import Python, find_pythons, probe
from report import print_report, summarize

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "test-results"
WHEEL_ENVIRONMENT = ROOT / ".venv-wheel"
# A hanging test fails with a traceback instead of blocking the run.
TEST_TIMEOUT_S = 180
# Tests of a file share servers and kernels, so they stay together. Files run in alphabetical order: xdist's order,
# most tests first, would leave the long browser tests for the end.
WORKERS = ["-n", str(min(os.cpu_count() or 1, 4)), "--dist", "loadfile", "--no-loadscope-reorder"]
OLD = ("ipykernel>=6.29,<7", "pandas>=2.2,<3")
NOT_FOR_THE_WHEEL = "not browser and not checkout and not once"
# Not copied beside the tests of the wheel; above all the package, so that the installed one is imported.
NOT_COPIED = {"createagents_nb", "dist", "build", "out", "test-results", "node_modules", "shared"}


def run_main(pytest_arguments: Sequence[str]) -> bool:
    heading(f"main: the checkout on {describe(Path(sys.executable))}")
    chromium = ensure_chromium()
    if chromium is None:
        print(ADVICE, flush=True)
    environment = environment_of(Path(sys.executable), CHROMIUM=chromium or "")
    return pytest("main", Path(sys.executable), ["tests", *WORKERS, *pytest_arguments], ROOT, environment)


def run_notebooks(_: Sequence[str]) -> bool:
    interpreter = Path(sys.executable)
    heading(f"notebooks: as committed, on {describe(interpreter)}")
    return validate_notebooks("notebooks", interpreter, ROOT)


def run_wheel(pytest_arguments: Sequence[str]) -> bool:
    interpreter = wheel_environment()
    heading(f"wheel: without the source beside it, on {describe(interpreter)}")
    with tempfile.TemporaryDirectory(prefix="createagents-nb-") as folder:
        copy = Path(folder) / "checkout"
        copy_without_package(copy)
        selected = ["tests", *WORKERS, "-m", NOT_FOR_THE_WHEEL, *pytest_arguments]
        passed = pytest("wheel", interpreter, selected, copy, environment_of(interpreter))
        return validate_notebooks("wheel-notebooks", interpreter, copy) and passed


STEPS: dict[str, Callable[[Sequence[str]], bool]] = {
    "main": run_main,
    "notebooks": run_notebooks,
    "wheel": run_wheel,
}


def pytest(
    name: str, interpreter: Path, arguments: Sequence[str], folder: Path, environment: dict[str, str]
) -> bool:
    report = RESULTS / f"{name}.xml"
    command = [str(interpreter), "-m", "pytest", f"--junitxml={report}", f"--timeout={TEST_TIMEOUT_S}", *arguments]
    return (
        subprocess.run(command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, check=False).returncode == 0
    )


def validate_notebooks(name: str, interpreter: Path, folder: Path) -> bool:
    # A notebook that names no provider must not find and use the developer's key.
    environment = environment_of(interpreter, CREATEAGENTS_NB_MODEL="demo:")
    arguments = ["--nbval-lax", "--nbval-current-env", *WORKERS, "notebooks"]
    return pytest(name, interpreter, arguments, folder, environment)


def wheel_environment() -> Path:
    """Build the wheel, install it in the second environment and return the path of that interpreter."""
    wheel = build_wheel()
    python = second_python()
    # Dependencies are kept while pyproject.toml is unchanged; the wheel is always reinstalled.
    stamp = WHEEL_ENVIRONMENT / ".installed"
    inputs = f"{python}\n{OLD}\n{(ROOT / 'pyproject.toml').read_text()}"
    if stamp.exists() and stamp.read_text() == inputs:
        return make_environment(WHEEL_ENVIRONMENT, python, [str(wheel)], "--no-deps", "--reinstall")
    shutil.rmtree(WHEEL_ENVIRONMENT, ignore_errors=True)
    interpreter = make_environment(WHEEL_ENVIRONMENT, python, [f"createagents-nb[dev] @ {wheel.as_uri()}", *OLD])
    stamp.write_text(inputs)
    return interpreter


def build_wheel() -> Path:
    folder = ROOT / "dist"
    shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def second_python() -> Python:
    """Return the Python version furthest from the main environment's, or the same if there is no other."""
    main = probe(sys.executable)
    assert main is not None
    others = [python for python in find_pythons() if python.minor != main.minor]
    if not others:
        print(
            f"Only one usable Python was found, {main}: the wheel is tested on it too, with ipykernel 6 and "
            "pandas 2. Install another (3.11 or newer) to test both ends.",
            flush=True,
        )
        return main
    return others[0] if others[0].minor < main.minor else others[-1]


def copy_without_package(copy: Path) -> None:
    copy.mkdir()
    for entry in ROOT.iterdir():
        if entry.name in NOT_COPIED or entry.name.startswith("."):
            continue
        if entry.is_dir():
            shutil.copytree(
                entry, copy / entry.name, ignore=shutil.ignore_patterns("__pycache__", ".*", "node_modules")
            )
        else:
            shutil.copy2(entry, copy)
    shared = ROOT.parent / "shared"
    if shared.is_dir():
        (copy.parent / "shared").symlink_to(shared)


def environment_of(interpreter: Path, **variables: str) -> dict[str, str]:
    """Return this process's environment variables as if the interpreter's environment were activated."""
    # Bytecode is always written: tests start some hundred processes that import the same modules.
    removed = {"PYTHONPATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE"}
    environment = {name: value for name, value in os.environ.items() if name not in removed}
    environment["VIRTUAL_ENV"] = str(interpreter.parent.parent)
    environment["PATH"] = f"{interpreter.parent}{os.pathsep}{environment.get('PATH', '')}"
    environment.update(variables)
    return environment


def describe(interpreter: Path) -> str:
    code = (
        "import platform; from importlib.metadata import version; "
        "print('Python', platform.python_version(), 'with ipykernel', version('ipykernel'))"
    )
    return subprocess.run([interpreter, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def heading(text: str) -> None:
    print(f"\n\033[1m▶ {text}\033[0m" if sys.stdout.isatty() else f"\n▶ {text}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("steps", nargs="*", metavar="step", help=f"{', '.join(STEPS)} (all of them)")
    parser.add_argument("--beside", action="store_true", help=argparse.SUPPRESS)
    own, pytest_arguments = split_arguments(sys.argv[1:])
    options = parser.parse_args(own)
    steps = options.steps or list(STEPS)
    if unknown := [step for step in steps if step not in STEPS]:
        parser.error(f"unknown step {unknown[0]!r}: there are {', '.join(STEPS)}")
    if options.beside:
        return 0 if run_step(steps[0], pytest_arguments) else 1
    shutil.rmtree(RESULTS, ignore_errors=True)
    RESULTS.mkdir()
    started = time.monotonic()
    failed = run_steps(steps, pytest_arguments)
    print_report(summarize(RESULTS), failed, time.monotonic() - started)
    return 1 if failed else 0


def run_steps(steps: Sequence[str], pytest_arguments: Sequence[str]) -> list[str]:
    """Run the steps; return the names of those that failed."""
    with ThreadPoolExecutor(max_workers=1) as others:
        beside = {step: others.submit(run_beside, step, pytest_arguments) for step in steps[1:]}
        passed = {steps[0]: run_step(steps[0], pytest_arguments)}
        for step, running in beside.items():
            result = running.result()
            print(result.stdout, end="", flush=True)
            passed[step] = result.returncode == 0
    return [step for step, has_passed in passed.items() if not has_passed]


def run_beside(step: str, pytest_arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, __file__, "--beside", step, "--", *pytest_arguments]
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )


def run_step(step: str, pytest_arguments: Sequence[str]) -> bool:
    try:
        return STEPS[step](pytest_arguments)
    except subprocess.CalledProcessError as error:
        print(f"{step}: {' '.join(map(str, error.cmd[:4]))} … failed.", flush=True)
        return False


def split_arguments(arguments: list[str]) -> tuple[list[str], list[str]]:
    if "--" not in arguments:
        return arguments, []
    place = arguments.index("--")
    return arguments[:place], arguments[place + 1 :]


if __name__ == "__main__":
    sys.exit(main())
