"""What `make demo` prints, which Pythons `make` trusts, and how runs add up."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
sys.path.insert(0, str(SCRIPTS))

from pythons import probe  # noqa: E402
from report import print_report, summarize  # noqa: E402
from terminal_output import CellOutput, show_source  # noqa: E402


def display(text: str, display_id: str | None = None) -> dict[str, Any]:
    return {"data": {"text/markdown": text, "text/plain": "plain"}, "transient": {"display_id": display_id}}


def test_an_answer_is_printed_as_far_as_two_updates_agree(capsys: pytest.CaptureFixture[str]) -> None:
    output = CellOutput()
    output.message("display_data", display("*0.1 s*", "a"))
    output.message("update_display_data", display("Hello wor\n\n*0.2 s*", "a"))
    assert capsys.readouterr().out == ""
    output.message("update_display_data", display("Hello world\n\n*0.3 s*", "a"))
    assert capsys.readouterr().out == "Hello wor"
    output.message("update_display_data", display("Hello world\n\n*done*", "a"))
    output.finish()
    assert capsys.readouterr().out == "ld\n\n*done*\n"


def test_a_revised_line_is_printed_again_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    output = CellOutput()
    output.message("display_data", display("one\ntwo thr", "a"))
    output.message("update_display_data", display("one\ntwo three", "a"))
    output.message("update_display_data", display("one\n2 three", "a"))
    output.finish()
    assert capsys.readouterr().out == "one\ntwo thr\n2 three\n"


def test_two_answers_in_one_cell_do_not_mix(capsys: pytest.CaptureFixture[str]) -> None:
    output = CellOutput()
    for text in ("a", "aa", "aaa"):
        output.message("display_data" if text == "a" else "update_display_data", display(text, "first"))
        output.message("display_data" if text == "a" else "update_display_data", display(f"b{text}", "second"))
    output.finish()
    assert capsys.readouterr().out == "aaa\n\nbaaa\n"


def test_escape_sequences_do_not_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    output = CellOutput()
    output.message("stream", {"name": "stdout", "text": "\x1b[31mred\x1b[0m \x1b]0;title\x07plain\x9b2J\r\n"})
    assert capsys.readouterr().out == "red plain2J\n"


def test_a_live_widget_prints_nothing_and_a_picture_its_type(capsys: pytest.CaptureFixture[str]) -> None:
    output = CellOutput()
    output.message(
        "display_data", {"data": {"application/vnd.jupyter.widget-view+json": {}, "text/plain": "View()"}}
    )
    output.message("execute_result", {"data": {"image/png": "…", "text/plain": "<Figure>"}})
    output.finish()
    assert capsys.readouterr().out == "[image/png]\n"


def test_a_long_source_is_shortened(capsys: pytest.CaptureFixture[str]) -> None:
    show_source("\n".join(f"line {number}" for number in range(40)))
    shown = capsys.readouterr().out
    assert "line 13" in shown
    assert "line 14" not in shown
    assert "26 more lines" in shown


def test_a_shim_that_fails_and_a_missing_file_are_not_pythons(tmp_path: Path) -> None:
    shim = tmp_path / "python3"
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    assert probe(str(shim)) is None
    assert probe(str(tmp_path / "absent")) is None


def test_a_python_is_known_by_running_it() -> None:
    found = probe(sys.executable)
    assert found is not None
    assert found.version == sys.version_info[:3]


def test_runs_add_up_in_the_closing_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = '<testsuites><testsuite tests="{}" failures="{}" errors="0" skipped="1" time="1.5"/></testsuites>'
    (tmp_path / "main.xml").write_text(report.format(5, 0))
    (tmp_path / "wheel.xml").write_text(report.format(4, 1))
    print_report(summarize(tmp_path), ["wheel"], 3.0)
    lines = capsys.readouterr().out.splitlines()
    assert "main             4 passed, 1 skipped in 1.5s" in lines
    assert "wheel            1 failed, 2 passed, 1 skipped in 1.5s" in lines
    assert "failed: wheel" in lines
    assert lines[-1].strip("= ") == "1 failed, 6 passed, 2 skipped in 3.00s"
