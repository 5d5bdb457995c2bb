"""Small files that would be large tables or long work: ``readlocalfile`` in a process with little of either."""

from __future__ import annotations

import io
import warnings
import zipfile
from pathlib import Path
from typing import Any

import openpyxl  # type: ignore[import-untyped]
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pypdf
import pytest
from bounded_reader import read_bounded

from createagents_nb.builtin_tools import ReadLocalFileTool

pytestmark = pytest.mark.once

WORKSHEET = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"


def read(folder: Path, name: str, **arguments: Any) -> str:
    return ReadLocalFileTool(root=folder).execute(path=name, **arguments)


# CSV


@pytest.mark.parametrize("content", ['x,"a",y\n,' + '"' * 2000 + "z\n", ';"x' * 22_000 + "\n1;2"])
def test_quotes_that_lead_nowhere_are_read_at_once(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.csv").write_text(content)
    assert read_bounded(tmp_path, "a.csv").startswith("a.csv: CSV")


@pytest.mark.parametrize(
    ("content", "columns"),
    [
        ("name;price\nx;1,5\ny;2,5\n", "name: str, price: str"),
        ("1,5;2,5\n3,5;4,5\n", "1,5: str, 2,5: str"),
        ("price, EUR;weight, kg\n1;2\n", "price, EUR: int64, weight, kg: int64"),
        ("a|b\n1|2\n", "a: int64, b: int64"),
        ("a\tb\n1,5\t2,5\n", "a: str, b: str"),
        ('name,tags\nx,"a;b"\ny,"c;d"\n', "name: str, tags: str"),
        ('"name; first","tag"\nx,"a\n;;b"\n', "name; first: str, tag: str"),
        ('a,b\n5" pipe,"1"\n', "a: str, b: int64"),
        ("note\nhello; all\nyou; too\n", "note: str"),
        ("n\n1\n2\n", "n: int64"),
        ("a,b,c\n", "a: str, b: str, c: str"),
    ],
)
def test_the_separator_is_what_the_lines_agree_on(tmp_path: Path, content: str, columns: str) -> None:
    (tmp_path / "a.csv").write_text(content)
    assert f"dtypes: {columns}\n" in read(tmp_path, "a.csv").replace("object", "str") + "\n"


@pytest.mark.parametrize(
    "content",
    [
        "a," * 40_000 + "a\n" + "1\n" * 40_000,  # each line would be filled up to the header
        "a\n" + "," * 40_000 + "\n" + "1\n" * 40_000,  # or to the first row
        ' \n\n"a\n' + "b" * 10 + '"\n' + "," * 40_000 + "\n" + "1\n" * 40_000,
        "," * 2_000_000 + "\n1",
    ],
)
def test_a_csv_that_is_wide_and_long_is_shown_as_text(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.csv").write_text(content)
    assert read_bounded(tmp_path, "a.csv").startswith("a.csv: CSV, too large for a table, so as text, ")


def test_a_csv_that_is_long_and_less_wide_is_shown_as_text(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a," * 6_000 + "a\n" + "1\n" * 60_000)
    assert read_bounded(tmp_path, "a.csv").startswith(
        "a.csv: CSV, too large for a table, so as text, 60,001 lines"
    )


def test_separators_inside_quotes_do_not_make_a_table_wide(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('name,shape\nx,"' + "1 2, " * 20_000 + '"\n')
    assert "1 rows × 2 columns" in read(tmp_path, "a.csv")


# JSON and YAML


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.yaml"])
def test_records_that_share_no_column_are_shown_as_text(tmp_path: Path, name: str) -> None:
    rows = [f'{{"k{number}": 1}}' for number in range(20_000)]
    if name == "a.json":
        (tmp_path / name).write_text(f"[{', '.join(rows)}]")
    else:
        (tmp_path / name).write_text("\n".join(("- " if name == "a.yaml" else "") + row for row in rows))
    told = read_bounded(tmp_path, name)
    assert "k0" in told
    assert "columns" not in told


@pytest.mark.parametrize(
    "content",
    [
        "a: 1" + ":1" * 490_000,
        'a: !!float "1' + ":01" * 300_000 + '.5"',
        "a: &a {" + ", ".join(f"k{n}: 1" for n in range(20_000)) + "}\nb:\n  <<: [" + "*a, " * 150_000 + "]\n",
        "- {a: &a " + "x" * 400_000 + "}\n" + "- {a: *a}\n" * 50_000,
        "- &a {" + ", ".join(f"k{n}: 1" for n in range(9_000)) + "}\n" + "- *a\n" * 100_000,
    ],
    ids=["base 60", "base 60 float", "merge keys", "one text in many rows", "one row many times"],
)
def test_yaml_that_grows_when_it_is_loaded_is_shown_as_text(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.yaml").write_text(content)
    assert read_bounded(tmp_path, "a.yaml").startswith("a.yaml: YAML, ")


def test_yaml_records_keep_their_times_and_what_they_merge(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("- &a {x: 1, t: 1:30, y: 0x10}\n- {<<: *a, x: 2}\n")
    assert read(tmp_path, "a.yaml").startswith(
        "a.yaml: YAML, a list of records, 2 rows × 3 columns\ndtypes: x: int64, t: int64, y: int64"
    )
    assert read(tmp_path, "a.yaml").count("90") == 2


@pytest.mark.parametrize("content", ["- {a: !!bool x}", "- {a: !!timestamp x}", "- {a: !!int ''}"])
def test_yaml_that_cannot_be_loaded_is_shown_as_text(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.yaml").write_text(content)
    assert read(tmp_path, "a.yaml") == f"a.yaml: YAML, 1 line\n\n{content}"


@pytest.mark.parametrize("content", ["[" * 900 + "1," * 500_000 + "1" + "]" * 900, "[" * 3000 + "]" * 3000])
def test_json_that_would_grow_with_its_depth_is_shown_as_it_is(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.json").write_text(content)
    told = read_bounded(tmp_path, "a.json")
    assert "1 line\n\n[[[[" in told or "not valid JSON" in told


# Excel


def write_sheet(path: Path, cells: str, strings: str = "") -> None:
    """An .xlsx whose only sheet has these rows, as XML."""
    plain = io.BytesIO()
    openpyxl.Workbook().save(plain)
    with zipfile.ZipFile(plain) as book, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name in book.namelist():
            data = book.read(name)
            if name == "xl/worksheets/sheet1.xml":
                data = f'<worksheet xmlns="{WORKSHEET}"><sheetData>{cells}</sheetData></worksheet>'.encode()
            if name == "[Content_Types].xml":
                kind = "application/vnd.openxmlformats-officedocument.spreadsheetml.sharedStrings+xml"
                part = f'<Override PartName="/xl/sharedStrings.xml" ContentType="{kind}"/></Types>'
                data = data.replace(b"</Types>", part.encode())
            made.writestr(name, data)
        made.writestr("xl/sharedStrings.xml", f'<sst xmlns="{WORKSHEET}">{strings}</sst>')


def one(row: int, cell: str) -> str:
    return f'<row r="{row}">{cell}</row>'


@pytest.mark.parametrize(
    "cells",
    [
        one(1, '<c r="A1"><v>1</v></c>') + one(1_048_576, '<c r="XFD1048576"><v>1</v></c>'),
        one(1, '<c r="A1"><v>1</v></c>') + one(99_999_999_999, "<c><v>1</v></c>"),
        "".join(one(row, f'<c r="XFD{row}"/>') for row in range(1, 20_000)),
    ],
    ids=["far cell", "far row", "empty cells"],
)
def test_a_sheet_whose_cells_are_far_apart_is_refused(tmp_path: Path, cells: str) -> None:
    write_sheet(tmp_path / "a.xlsx", cells)
    told = read_bounded(tmp_path, "a.xlsx")
    assert told.startswith("ValueError: sheet 'Sheet' is too large: ")
    assert "Save the part that matters as .csv" in told


def test_a_sheet_that_shows_one_long_text_in_every_row_is_refused(tmp_path: Path) -> None:
    cells = "".join(one(row, '<c t="s"><v>0</v></c>') for row in range(1, 20_000))
    write_sheet(tmp_path / "a.xlsx", cells, f"<si><t>{'x' * 1_000_000}</t></si>")
    assert "is too large" in read_bounded(tmp_path, "a.xlsx")


def test_a_sheet_whose_last_row_was_only_touched_is_read(tmp_path: Path) -> None:
    filled = one(1, "<c><v>1</v></c><c><v>2</v></c>") + one(2, "<c><v>3</v></c>")
    write_sheet(tmp_path / "a.xlsx", filled + one(1_048_576, '<c r="XFD1048576"/>'))
    assert "Excel, sheet 'Sheet', 1 rows × 2 columns" in read_bounded(tmp_path, "a.xlsx")


# Parquet


def write_one_value(path: Path, value: Any, kind: pa.DataType, rows: int, *, in_lists: bool = False) -> None:
    """A Parquet file that has one value, in every row."""
    column = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array([value], kind))
    if in_lists:
        column = pa.ListArray.from_arrays(pa.array(range(rows + 1), pa.int32()), column)
    pq.write_table(pa.table({"a": column}), path, compression="zstd", store_schema=False)


@pytest.mark.parametrize("offset", [0, 19_990])
@pytest.mark.parametrize("in_lists", [False, True])
def test_a_text_that_all_rows_share_is_read_once(tmp_path: Path, offset: int, in_lists: bool) -> None:
    write_one_value(tmp_path / "a.parquet", "x" * 1_000_000, pa.string(), 20_000, in_lists=in_lists)
    told = read_bounded(tmp_path, "a.parquet", offset=offset, max_rows=2)
    assert told.startswith("a.parquet: Parquet, 20,000 rows × 1 columns\n")
    assert f"rows {offset:,} to {offset + 1:,}:" in told


@pytest.mark.parametrize("in_lists", [False, True])
def test_rows_of_a_parquet_file_that_are_too_large_together_are_refused(tmp_path: Path, in_lists: bool) -> None:
    write_one_value(tmp_path / "a.parquet", "x" * 1_000_000, pa.string(), 20_000, in_lists=in_lists)
    told = read_bounded(tmp_path, "a.parquet", max_rows=1000)
    assert told.startswith("ValueError: the 1,000 rows asked for have more than 20,971,520 bytes: ask for fewer")


def test_bytes_of_a_fixed_length_are_read_a_few_rows_at_a_time(tmp_path: Path) -> None:
    write_one_value(tmp_path / "a.parquet", b"x" * 1_000_000, pa.binary(1_000_000), 300)
    assert "300 rows" in read_bounded(tmp_path, "a.parquet", offset=290, max_rows=1)


def test_a_row_that_holds_a_huge_list_is_refused(tmp_path: Path) -> None:
    lists = pa.ListArray.from_arrays(pa.array([0, 101_000_000], pa.int32()), pa.nulls(101_000_000, pa.int8()))
    pq.write_table(pa.table({"a": lists}), tmp_path / "a.parquet", store_schema=False)
    assert "values in lists, which is too much" in read_bounded(tmp_path, "a.parquet")


def test_row_groups_and_types_are_as_they_were_written(tmp_path: Path) -> None:
    table = pa.table(
        {
            "n": range(10),
            "text": ["x", None] * 5,
            "kind": pa.array(["u", "v"] * 5).dictionary_encode(),
            "list": [["a"], None] * 5,
            "map": pa.array([[("k", "v")], None] * 5, pa.map_(pa.string(), pa.string())),
            "struct": [{"b": b"1", "s": "t"}, None] * 5,
            "large": pa.array(["y"] * 10, pa.large_string()),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=3)
    for offset, count in ((0, 10), (2, 5), (3, 3), (8, 9), (20, 1)):
        told = read(tmp_path, "a.parquet", offset=offset, max_rows=count)
        part = table.slice(offset, count).to_pandas()
        assert told.splitlines()[1] == "dtypes: " + ", ".join(f"{name}: {part[name].dtype}" for name in part)
        cells = [line.split("|")[2].strip() for line in told.splitlines() if line.startswith("|")]
        assert cells[2:] == [str(number) for number in part["n"]]


def test_texts_in_lists_whose_encoding_changes_are_read(tmp_path: Path) -> None:
    """As of a data set of conversations: a dictionary, until it is too large, and then texts as they are."""
    # pyarrow checks the size of a dictionary after every 1,024 values
    talks = [[{"role": "user", "content": f"{number} " + "x" * 200}] for number in range(3000)]
    pq.write_table(pa.table({"talk": talks}), tmp_path / "a.parquet", dictionary_pagesize_limit=100_000)
    for offset in (0, 300, 2990):
        assert f"'content': '{offset} xx" in read(tmp_path, "a.parquet", offset=offset)


# PDF


def write_pdf(path: Path, pages: int, lines: int) -> None:
    """A PDF whose pages all have the same content, which is in the file once."""
    writer = pypdf.PdfWriter()
    name, dictionary = pypdf.generic.NameObject, pypdf.generic.DictionaryObject
    font = dictionary({name("/Type"): name("/Font"), name("/Subtype"): name("/Type1")})
    font[name("/BaseFont")] = name("/Helvetica")
    content = pypdf.generic.DecodedStreamObject()
    content.set_data(b"BT /F1 8 Tf 10 TL " + b"(word) Tj T*\n" * lines + b"ET")
    shared = writer._add_object(content)
    for _ in range(pages):
        page = writer.add_blank_page(600, 800)
        page[name("/Resources")] = dictionary({name("/Font"): dictionary({name("/F1"): font})})
        page[name("/Contents")] = shared
    writer.write(path)


def test_pages_of_a_pdf_after_the_last_line_shown_are_not_read(tmp_path: Path) -> None:
    write_pdf(tmp_path / "a.pdf", pages=3000, lines=1200)
    told = read_bounded(tmp_path, "a.pdf")
    assert told.startswith(
        "a.pdf: PDF, 3,000 pages, the first 1 read, 1,201 lines; lines 0 to 999; continue with offset=1000\n"
    )


def test_a_long_pdf_can_be_read_to_its_end(tmp_path: Path) -> None:
    write_pdf(tmp_path / "a.pdf", pages=5, lines=300)
    parts, offset = [], 0
    while True:
        head, _, part = read(tmp_path, "a.pdf", offset=offset, max_rows=400).partition("\n\n")
        parts += part.split("\n")
        if "continue with offset=" not in head:
            break
        offset = int(head.rsplit("=", 1)[1])
    assert parts == read(tmp_path, "a.pdf", max_rows=1000).partition("\n\n")[2].split("\n") + parts[1000:]
    assert [line for line in parts if line.startswith("---")] == [f"--- page {n} ---" for n in range(1, 6)]


def test_a_pdf_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    from createagents_nb.builtin_tools.binary_readers import read_pdf
    from createagents_nb.builtin_tools.excerpt import Window

    write_pdf(tmp_path / "a.pdf", pages=1, lines=10)
    with pytest.raises(ValueError, match="to read: save the pages that matter"):
        read_pdf((tmp_path / "a.pdf").read_bytes(), Window(0, None, 1000), seconds=-1)


# Broken files


def broken(path: Path) -> list[bytes]:
    """The file with something wrong in each of many places."""
    data = path.read_bytes()
    step = max(len(data) // 60, 1)
    cut = [data[:at] + data[at + 7 :] for at in range(0, len(data), step)]
    return cut + [data[:at] + b"9999999999" + data[at + 10 :] for at in range(0, len(data), step)]


@pytest.mark.parametrize("suffix", [".xlsx", ".parquet", ".pdf"])
def test_a_broken_file_is_a_value_error_or_is_read(tmp_path: Path, suffix: str) -> None:
    whole = tmp_path / f"whole{suffix}"
    frame = pd.DataFrame({"a": range(50), "b": ["x" * 5] * 50})
    if suffix == ".xlsx":
        frame.to_excel(whole)
    elif suffix == ".parquet":
        frame.to_parquet(whole)
    else:
        write_pdf(whole, 2, 3)
    kinds = set()
    for data in broken(whole):
        (tmp_path / f"a{suffix}").write_bytes(data)
        try:
            with warnings.catch_warnings(action="ignore"):
                read(tmp_path, f"a{suffix}")
        except Exception as error:
            kinds.add(type(error))
    assert kinds == {ValueError}


@pytest.mark.parametrize(
    "cells",
    ['<row r="1"><c r="A1"><v>1</v>', one(1, '<c r="A1" t="s"><v>7</v></c>'), one(1, '<c r="?"><v>1</v></c>')],
)
def test_a_broken_sheet_is_a_value_error(tmp_path: Path, cells: str) -> None:
    write_sheet(tmp_path / "a.xlsx", cells)
    with pytest.raises(ValueError, match="not an Excel file") as caught:
        read(tmp_path, "a.xlsx")
    assert type(caught.value) is ValueError
