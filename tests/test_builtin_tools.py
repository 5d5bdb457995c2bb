"""The tools that ship: ``currentdate`` and ``readlocalfile``, on real files."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import textwrap
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import openpyxl  # type: ignore[import-untyped]
import pandas as pd
import pypdf
import pytest

from createagents_nb.builtin_tools import BUILTIN_TOOLS, CurrentDateTool, ReadLocalFileTool
from createagents_nb.tools.executor import ToolExecutor
from createagents_nb.tools.tool import as_tool


def test_the_built_ins_are_named_as_they_are_asked_for() -> None:
    assert list(BUILTIN_TOOLS) == ["currentdate", "readlocalfile"]
    for name, make in BUILTIN_TOOLS.items():
        assert as_tool(make()).name == name


# currentdate


@pytest.fixture
def clock() -> CurrentDateTool:
    return CurrentDateTool(now=lambda: datetime(2026, 3, 29, 23, 30, 5, tzinfo=UTC))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"tz": "UTC"}, "Sunday, 2026-03-29, 23:30:05 (UTC, UTC+00:00)"),
        ({"tz": "Europe/Lisbon"}, "Monday, 2026-03-30, 00:30:05 (Europe/Lisbon, UTC+01:00)"),
        ({"tz": "Asia/Kolkata", "format": "iso"}, "2026-03-30T05:00:05+05:30"),
        ({"tz": "America/Sao_Paulo", "format": "date"}, "2026-03-29"),
        ({"tz": "Asia/Tokyo", "format": "time"}, "08:30:05"),
        ({"tz": "europe/lisbon", "format": "date"}, "2026-03-30"),
        ({"tz": "America/São Paulo", "format": "time"}, "20:30:05"),
    ],
)
def test_the_time_is_told_in_any_zone(clock: CurrentDateTool, arguments: dict[str, str], text: str) -> None:
    assert clock.execute(**arguments) == text


def test_without_a_zone_the_local_one_is_told() -> None:
    script = textwrap.dedent(
        """
        import time
        time.tzset()
        from datetime import UTC, datetime
        from createagents_nb.builtin_tools import CurrentDateTool
        print(CurrentDateTool(now=lambda: datetime(2026, 7, 1, 12, tzinfo=UTC)).execute())
        """
    )
    environment = os.environ | {"TZ": "Asia/Tokyo"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "Wednesday, 2026-07-01, 21:00:00 (JST, UTC+09:00)\n"


def test_now_is_now() -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    told = datetime.fromisoformat(CurrentDateTool().execute(format="iso"))
    assert before <= told <= datetime.now(UTC)


@pytest.mark.parametrize(
    ("wrong", "suggestion"),
    [
        ("Europe/Lisboa", "Europe/Lisbon"),
        ("Tokyo", "Asia/Tokyo"),
        ("Brazil/Sao_Paulo", "America/Sao_Paulo"),
        ("Europe", "Use an IANA name"),
        ("../etc/passwd", "Use an IANA name"),
        ("x\0y", "Use an IANA name"),
    ],
)
def test_a_wrong_zone_is_answered_with_close_ones(clock: CurrentDateTool, wrong: str, suggestion: str) -> None:
    with pytest.raises(ValueError, match=r"unknown time zone") as caught:
        clock.execute(tz=wrong)
    assert suggestion in str(caught.value)


@pytest.mark.asyncio
async def test_a_format_that_does_not_exist_is_an_invalid_argument(clock: CurrentDateTool) -> None:
    outcome = await ToolExecutor().execute(clock, {"format": "roman"})
    assert outcome.status == "invalid_arguments"
    assert "iso" in outcome.text


# readlocalfile: formats


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    return inside


def read(folder: Path, name: str, **arguments: Any) -> str:
    return ReadLocalFileTool(root=folder).execute(path=name, **arguments)


def test_text_is_read_as_it_is(folder: Path) -> None:
    (folder / "notes.md").write_text("# Título\n\nlinha", encoding="utf-8")
    assert read(folder, "notes.md") == "notes.md: text, 3 lines\n\n# Título\n\nlinha"


@pytest.mark.parametrize(
    ("data", "note"),
    [
        ("olá".encode(), ""),
        ("olá".encode("utf-8-sig"), ""),
        ("olá".encode("utf-16"), " (UTF-16)"),
        ("olá".encode("latin-1"), " (not UTF-8, read as Latin-1)"),
    ],
)
def test_encodings_are_found_and_guesses_are_said(folder: Path, data: bytes, note: str) -> None:
    (folder / "a.txt").write_bytes(data)
    assert read(folder, "a.txt") == f"a.txt: text{note}, 1 line\n\nolá"


def test_long_texts_are_read_in_parts(folder: Path) -> None:
    (folder / "log.txt").write_text("\n".join(f"line {n}" for n in range(5000)))
    first = read(folder, "log.txt")
    assert "5,000 lines; lines 0 to 999; continue with offset=1000" in first
    assert first.endswith("line 999")
    assert read(folder, "log.txt", offset=4998, max_rows=10).endswith(
        "lines 4,998 to 4,999\n\nline 4998\nline 4999"
    )
    assert "none from 9,000 on" in read(folder, "log.txt", offset=9000)
    assert "lines 0 to 999;" in read(folder, "log.txt", max_rows=100_000)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "city,year\nLisboa,2026\nOslo,2025\n"),
        ("b.csv", "city;year\nLisboa;2026\nOslo;2025\n"),
        ("c.tsv", "city\tyear\nLisboa\t2026\nOslo\t2025\n"),
        ("d.json", json.dumps([{"city": "Lisboa", "year": 2026}, {"city": "Oslo", "year": 2025}])),
        ("e.jsonl", '{"city": "Lisboa", "year": 2026}\n\n{"city": "Oslo", "year": 2025}\n'),
        ("f.yaml", "- {city: Lisboa, year: 2026}\n- {city: Oslo, year: 2025}\n"),
    ],
)
def test_tables_in_text_files_come_with_shape_and_types(folder: Path, name: str, content: str) -> None:
    (folder / name).write_text(content)
    text = read(folder, name)
    assert "2 rows × 2 columns\ndtypes: city: str, year: int64" in text.replace("city: object", "city: str")
    assert "| Lisboa" in text


def test_large_tables_are_read_in_parts(folder: Path) -> None:
    pd.DataFrame({"n": range(1000)}).to_csv(folder / "n.csv", index=False)
    assert "1,000 rows × 1 columns\ndtypes: n: int64\nrows 0 to 19:" in read(folder, "n.csv")
    part = read(folder, "n.csv", offset=998, max_rows=5)
    assert "rows 998 to 999:" in part
    assert part.endswith("| 999 | 999 |")
    assert "no rows from 2,000" in read(folder, "n.csv", offset=2000)


def test_a_csv_that_is_no_table_is_shown_as_text(folder: Path) -> None:
    (folder / "odd.csv").write_text("a,b\n1,2\n1,2,3,4\n")
    (folder / "empty.csv").write_text("")
    assert "not a regular table" in read(folder, "odd.csv")
    assert read(folder, "odd.csv").endswith("1,2,3,4\n")
    assert "0 lines" in read(folder, "empty.csv")


def test_structures_are_shown_as_text(folder: Path) -> None:
    (folder / "a.json").write_text('{"a": {"b": [1, 2]}}')
    (folder / "b.json").write_text('{"a": ')
    (folder / "c.yml").write_text("a: 1  # why\n")
    (folder / "d.yaml").write_text("a: !Ref b\n")
    (folder / "e.jsonl").write_text("[1]\n[2]\n")
    assert '  "b": [' in read(folder, "a.json")
    assert "not valid JSON" in read(folder, "b.json")
    assert read(folder, "c.yml").endswith("a: 1  # why\n")
    assert read(folder, "d.yaml").endswith("a: !Ref b\n")
    assert read(folder, "e.jsonl").endswith("[1]\n[2]\n")


def test_yaml_that_multiplies_itself_stays_small(folder: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    (folder / "bomb.yaml").write_text("\n".join(lines))
    assert len(read(folder, "bomb.yaml")) < 2000


def test_excel_sheets_are_read(folder: Path) -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.title = "first"
    sheet.append(["city", "year"])
    sheet.append(["Lisboa", 2026])
    book.create_sheet("second").append(["only"])
    book.save(folder / "book.xlsx")
    text = read(folder, "book.xlsx")
    assert "Excel, sheet 'first' (sheets: first, second), 1 rows × 2 columns" in text
    assert "| Lisboa" in text
    assert "only: " in read(folder, "book.xlsx", sheet="second")
    with pytest.raises(ValueError, match=r"no sheet 'third'; available: first, second"):
        read(folder, "book.xlsx", sheet="third")


def test_parquet_is_read_row_by_row(folder: Path) -> None:
    pd.DataFrame({"n": range(200_000), "s": "x"}).to_parquet(folder / "n.parquet", row_group_size=50_000)
    assert "Parquet, 200,000 rows × 2 columns\ndtypes: n: int64, s: " in read(folder, "n.parquet")
    part = read(folder, "n.parquet", offset=65_530, max_rows=10)
    assert "rows 65,530 to 65,539:" in part
    assert "65530" in part
    assert "65539" in part
    assert "no rows from 300,000" in read(folder, "n.parquet", offset=300_000)


def write_pdf(path: Path, *pages: str) -> None:
    """A PDF with one line of text a page."""
    writer = pypdf.PdfWriter()
    for text in pages:
        page = writer.add_blank_page(200, 200)
        font = pypdf.generic.DictionaryObject(
            {
                pypdf.generic.NameObject("/Type"): pypdf.generic.NameObject("/Font"),
                pypdf.generic.NameObject("/Subtype"): pypdf.generic.NameObject("/Type1"),
                pypdf.generic.NameObject("/BaseFont"): pypdf.generic.NameObject("/Helvetica"),
            }
        )
        fonts = pypdf.generic.DictionaryObject({pypdf.generic.NameObject("/F1"): font})
        page[pypdf.generic.NameObject("/Resources")] = pypdf.generic.DictionaryObject(
            {pypdf.generic.NameObject("/Font"): fonts}
        )
        content = pypdf.generic.DecodedStreamObject()
        content.set_data(f"BT /F1 12 Tf 10 100 Td ({text}) Tj ET".encode() if text else b"")
        page[pypdf.generic.NameObject("/Contents")] = writer._add_object(content)
    writer.write(path)


def test_the_text_of_a_pdf_is_read_by_page(folder: Path) -> None:
    write_pdf(folder / "paper.pdf", "Speed of light", "Conclusion")
    text = read(folder, "paper.pdf")
    assert text.startswith("paper.pdf: PDF, 2 pages, 4 lines")
    assert "--- page 1 ---\nSpeed of light\n--- page 2 ---\nConclusion" in text


def test_a_pdf_without_text_says_so(folder: Path) -> None:
    write_pdf(folder / "scan.pdf", "")
    with pytest.raises(ValueError, match=r"no text: it may be scanned"):
        read(folder, "scan.pdf")


@pytest.mark.parametrize("name", ["a.xlsx", "a.parquet", "a.pdf", "a.xls"])
def test_a_file_that_is_not_what_its_name_says_is_an_error(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"this is none of it" * 10)
    with pytest.raises(ValueError, match=r"not a|not supported"):
        read(folder, name)


@pytest.mark.parametrize(
    ("name", "module"), [("a.xlsx", "openpyxl"), ("a.parquet", "pyarrow"), ("a.pdf", "pypdf"), ("a.yaml", "yaml")]
)
def test_a_reader_that_is_missing_names_the_extra(
    folder: Path, name: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # the import system's own way to say "not there"
    (folder / name).write_bytes(b"x")
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'createagents-nb\[files\]'"):
        read(folder, name)


# readlocalfile: what is refused


@pytest.mark.parametrize(
    "path", ["../secret.txt", "a/../../secret.txt", "/etc/passwd", "link.txt", "out/secret.txt"]
)
def test_nothing_outside_the_folder_can_be_reached(folder: Path, path: str) -> None:
    (folder / "link.txt").symlink_to(folder.parent / "secret.txt")
    (folder / "out").symlink_to(folder.parent)
    with pytest.raises(PermissionError, match=r"outside the allowed folder"):
        read(folder, path)


def test_what_is_outside_is_not_even_told_to_exist(folder: Path) -> None:
    messages = set()
    for path in ("../secret.txt", "../nothere.txt"):
        with pytest.raises(PermissionError) as caught:
            read(folder, path)
        messages.add(str(caught.value).replace(path, ""))
    assert len(messages) == 1


def test_a_neighbour_whose_name_begins_alike_is_outside(folder: Path) -> None:
    (folder.parent / "inside2").mkdir()
    (folder.parent / "inside2" / "a.txt").write_text("secret")
    with pytest.raises(PermissionError):
        read(folder, "../inside2/a.txt")


def test_links_and_absolute_paths_inside_the_folder_work(folder: Path) -> None:
    (folder / "a.txt").write_text("hello")
    (folder / "b.txt").symlink_to("a.txt")
    assert "hello" in read(folder, "b.txt")
    assert "hello" in read(folder, str(folder / "a.txt"))


def test_hidden_files_are_refused_unless_allowed(folder: Path) -> None:
    (folder / ".env").write_text("KEY=1")
    (folder / "env").symlink_to(".env")
    for path in (".env", "env"):
        with pytest.raises(PermissionError, match=r"hidden"):
            read(folder, path)
    assert ".env" not in read(folder, ".")
    assert "KEY=1" in ReadLocalFileTool(root=folder, hidden=True).execute(path=".env")


def test_pipes_sockets_devices_and_loops_are_refused(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    (folder / "loop").symlink_to("loop")
    with socket.socket(socket.AF_UNIX) as listening:
        # The path of a socket may have about 100 characters: bound by its short name.
        here = Path.cwd()
        os.chdir(folder)
        try:
            listening.bind("sock")
        finally:
            os.chdir(here)
        for name in ("pipe", "sock"):
            with pytest.raises(ValueError, match=r"not a regular file"):
                read(folder, name)
    for name in ("loop", "x" * 300):
        with pytest.raises(ValueError, match=r"cannot be followed"):
            read(folder, name)
    with pytest.raises(ValueError, match=r"not a regular file"):
        ReadLocalFileTool(root="/dev").execute(path="null")


def test_a_folder_is_listed(folder: Path) -> None:
    (folder / "b.txt").write_text("")
    (folder / "a").mkdir()
    assert read(folder, ".") == ". is a folder with 2 entries:\na/\nb.txt"


@pytest.mark.parametrize("path", ["", " ", "a\0b"])
def test_a_path_that_is_none_is_refused(folder: Path, path: str) -> None:
    with pytest.raises(ValueError, match=r"path is empty or has a null"):
        read(folder, path)


def test_a_missing_file_is_answered_with_what_there_is(folder: Path) -> None:
    (folder / "sales.csv").write_text("a\n1\n")
    with pytest.raises(FileNotFoundError, match=r"no file 'sale.csv'; there are: sales.csv"):
        read(folder, "sale.csv")
    with pytest.raises(FileNotFoundError, match=r"nor its folder"):
        read(folder, "x/sales.csv")
    with pytest.raises(FileNotFoundError, match=r"no file 'sales.csv/x'"):
        read(folder, "sales.csv/x")


def test_large_and_binary_files_are_refused(folder: Path) -> None:
    (folder / "large.txt").write_text("x" * 101)
    (folder / "a.bin").write_bytes(bytes(range(256)))
    (folder / "b.txt").write_bytes(b"\x01\x02\x03\x04" * 100)
    with pytest.raises(ValueError, match=r"101 bytes, more than the 100"):
        ReadLocalFileTool(root=folder, max_bytes=100).execute(path="large.txt")
    for name in ("a.bin", "b.txt"):
        with pytest.raises(ValueError, match=r"a binary file"):
            read(folder, name)


def test_an_excel_file_that_unpacks_to_too_much_is_refused(folder: Path) -> None:
    with zipfile.ZipFile(folder / "bomb.xlsx", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/worksheets/sheet1.xml", b"0" * 50_000_000)
    with pytest.raises(ValueError, match=r"unpacks to 50,000,000 bytes"):
        read(folder, "bomb.xlsx")


def test_a_file_that_may_not_be_read_says_so() -> None:
    # Below a folder of its own, for tmp_path cannot be entered by another user.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        closed = Path(folder) / "closed"
        closed.mkdir()
        for file in (Path(folder) / "a.txt", closed / "a.txt"):
            file.write_text("x")
            file.chmod(0)
        closed.chmod(0)
        user = os.geteuid()
        if user == 0:  # who may read everything
            os.seteuid(65534)
        try:
            for path in ("a.txt", "closed/a.txt"):
                with pytest.raises(PermissionError, match=rf"'{path}' may not be read: Permission denied"):
                    ReadLocalFileTool(root=folder).execute(path=path)
        finally:
            os.seteuid(user)
            closed.chmod(0o755)


def test_the_default_folder_is_the_current_one_at_the_time_of_the_call(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = ReadLocalFileTool()
    (folder / "a.txt").write_text("hello")
    monkeypatch.chdir(folder)
    assert "hello" in reader.execute(path="a.txt")


@pytest.mark.asyncio
async def test_a_refusal_becomes_text_for_the_model(folder: Path) -> None:
    outcome = await ToolExecutor().execute(ReadLocalFileTool(root=folder), '{"path": "../secret.txt"}')
    assert (outcome.status, outcome.success) == ("error", False)
    assert outcome.text.startswith("Error: PermissionError: '../secret.txt' is outside the allowed folder")
    outcome = await ToolExecutor().execute(ReadLocalFileTool(root=folder), '{"path": "a", "offset": -1}')
    assert outcome.status == "invalid_arguments"


@pytest.mark.parametrize("limits", [{"max_bytes": 0}, {"max_rows": 0}])
def test_limits_must_be_one_or_more(limits: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="1 or more"):
        ReadLocalFileTool(**limits)  # type: ignore[arg-type]
