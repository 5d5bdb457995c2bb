"""Recorded calls in an SQLite file: what is written is read again, whatever happens to process and file."""

from __future__ import annotations

import gc
import math
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from family import run_script
from settled_calls import STARTED, call, request, settled, tool, wait_for

from createagents_nb.errors import RecorderFileError
from createagents_nb.metrics import sqlite_file, sqlite_writer
from createagents_nb.metrics.columns import CALLS, REQUESTS, STATUSES, TOOLS
from createagents_nb.metrics.observers import RecorderWarning, SettledCall
from createagents_nb.metrics.sqlite import DatabaseWriter, read_database

TOKENS = {
    "latency_s": 1.25,
    "ttft_s": 0.125,
    "tokens_per_s": 33.3,
    "input_tokens": 100,
    "output_tokens": 7,
    "cached_tokens": 3,
    "reasoning_tokens": 0,
    "cost_usd": 0.0000125,
}


def written(path: Path, *calls: SettledCall) -> list[SettledCall]:
    """What is read when ``calls`` have been written."""
    writer = DatabaseWriter(path)
    for it in calls:
        writer.call_settled(it)
    assert writer.close()
    return read_database(path)


def query(path: Path, statement: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(statement).fetchall()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """As another program holds it that writes."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


@contextmanager
def told(*patterns: str) -> Iterator[pytest.WarningsRecorder]:
    """These warnings, each once, and no others."""
    with pytest.warns(RecorderWarning) as caught:
        yield caught
    messages = [str(warning.message) for warning in caught]
    assert len(messages) == len(patterns), messages
    for pattern, message in zip(patterns, messages, strict=True):
        assert re.search(pattern, message), message


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who finds a file locked waits a twentieth of the usual time."""
    monkeypatch.setattr(sqlite_file, "BUSY_TIMEOUT_S", sqlite_file.BUSY_TIMEOUT_S / 20)


# What is written is read again.


def test_records_come_back_equal_with_every_field(path: Path) -> None:
    whole = SettledCall(
        call(
            1,
            **TOKENS,
            status="limit",
            rounds=2,
            tool_calls=1,
            error_type="ServerError",
            error="down",
            prompt="Olá 🙂",
            response="a\0b\n",
            cell_id="c-1",
            execution_count=4,
        ),
        (
            request(
                1,
                **TOKENS,
                server="api.example",
                response_model="m-1",
                finish_reason="stop",
                load_s=0.5,
                prompt_eval_s=0.25,
                eval_s=0.75,
                retries=2,
                error_type="ServerError",
                error="down",
                adjusted="without stream_options",
            ),
            request(1, round=2),
        ),
        (tool(1, latency_s=0.5, result="", error="x", status="timeout"), tool(1, tool_call_id="", arguments="")),
    )
    bare = SettledCall(call(2))
    assert written(path, whole, bare) == [whole, bare]


def test_every_status_comes_back(path: Path) -> None:
    calls = [
        SettledCall(
            call(number),
            tuple(request(number, status=status) for status in STATUSES["requests"]),
            tuple(tool(number, status=status) for status in STATUSES["tools"]),
        )
        for number in range(2)
    ]
    calls += [settled(10 + number, status=status) for number, status in enumerate(STATUSES["calls"])]
    assert written(path, *calls) == calls


@pytest.mark.parametrize(
    ("column", "known", "kept"),
    [
        ("prompt", "\ud83d", "\ufffd"),
        ("prompt", "a\ude42b", "a\ufffdb"),
        ("prompt", "\ud83d\ude42", "🙂"),
        ("prompt", "", ""),
        ("prompt", 12, "12"),
        ("model", "", ""),
        ("model", None, ""),
        ("error_type", "", None),
        ("latency_s", math.inf, math.inf),
        ("latency_s", -math.inf, -math.inf),
        ("latency_s", math.nan, None),
        ("latency_s", "soon", None),
        ("latency_s", 2, 2.0),
        ("latency_s", 10**400, None),
        ("input_tokens", 2**63 - 1, 2**63 - 1),
        ("input_tokens", 1 - 2**63, 1 - 2**63),
        ("input_tokens", 2**63, None),
        ("input_tokens", -1, -1),
        ("input_tokens", 1.5, None),
        ("input_tokens", 3.0, 3),
        ("input_tokens", "many", None),
        ("input_tokens", [], None),
        ("started_at", STARTED.replace(tzinfo=None), STARTED),
        ("started_at", STARTED.astimezone(timezone(timedelta(hours=5, minutes=30))), STARTED),
        ("started_at", datetime(1, 1, 1, tzinfo=UTC), datetime(1, 1, 1, tzinfo=UTC)),
        ("started_at", datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=5))), None),
        ("started_at", "yesterday", None),
    ],
)
def test_a_strange_value_does_not_lose_its_row(path: Path, column: str, known: Any, kept: Any) -> None:
    (found,) = written(path, settled(1, **{column: known}))
    assert found == settled(1, **{column: kept})


def test_calls_come_in_the_order_in_which_they_started(path: Path) -> None:
    same = [replace(settled(number), call=call(number, started_at=STARTED)) for number in (5, 3, 4)]
    late, early = settled(9), SettledCall(call(1, started_at=STARTED - timedelta(days=1)))
    assert written(path, late, *same, early) == [early, *same, late]


def test_a_batch_of_many_calls_is_written_whole(path: Path) -> None:
    calls = [settled(number) for number in range(1234)]
    assert written(path, *calls) == calls


def test_a_call_that_is_written_twice_replaces_itself_and_its_parts(path: Path) -> None:
    others = [settled(1), settled(3)]
    again = SettledCall(call(2, status="error"), (request(2, status="error"),))
    assert written(path, settled(1), settled(2), settled(3)) == [others[0], settled(2), others[1]]
    assert written(path, again) == [others[0], again, others[1]]
    assert written(path, settled(2), again) == [others[0], again, others[1]]
    assert query(path, "SELECT count(*) FROM requests") == [(5,)]


def test_a_file_is_added_to_when_it_is_opened_again(path: Path) -> None:
    assert written(path, settled(1)) == [settled(1)]
    assert written(path, settled(2)) == [settled(1), settled(2)]
    assert written(path) == [settled(1), settled(2)]


def test_a_call_is_readable_while_the_writer_works_without_anybody_asking_it(path: Path) -> None:
    writer = DatabaseWriter(path)
    for number in (1, 2):
        writer.call_settled(settled(number))
        wait_for(lambda number=number: len(read_database(path)) == number)
    assert writer.trouble is None
    assert writer.close()


def test_flush_waits_for_what_was_handed_over(path: Path) -> None:
    writer = DatabaseWriter(path)
    assert writer.flush()
    writer.call_settled(settled(1))
    assert writer.flush()
    assert read_database(path) == [settled(1)]
    assert writer.close()


def test_after_close_nothing_is_written_and_the_thread_has_ended(path: Path) -> None:
    writer = DatabaseWriter(path)
    writer.call_settled(settled(1))
    assert writer.close()
    writer.call_settled(settled(2))
    assert writer.flush()
    assert writer.close()
    assert read_database(path) == [settled(1)]
    assert recorder_threads() == []


def recorder_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "createagents-nb-recorder"]


@pytest.mark.parametrize("kind", [str, Path])
def test_a_path_may_be_text_or_a_path_and_begin_with_a_tilde(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Callable[[str], str | Path]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    name = "a b?c#%20ç.db" if os.name != "nt" else "a b#%20ç.db"
    writer = DatabaseWriter(kind(f"~/{name}"))
    writer.call_settled(settled(1))
    assert writer.close()
    assert [file.name for file in tmp_path.iterdir()] == [name]
    assert read_database(kind(f"~/{name}")) == [settled(1)]


def test_a_relative_path_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    writer = DatabaseWriter("runs.db")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    writer.call_settled(settled(1))
    assert writer.close()
    assert read_database(tmp_path / "runs.db") == [settled(1)]


# The file, as others see it.


def test_the_tables_have_the_columns_of_the_frames(path: Path) -> None:
    written(path, settled(1))
    for table, columns in {"calls": CALLS, "requests": REQUESTS, "tools": TOOLS}.items():
        assert [row[1] for row in query(path, f"PRAGMA table_info({table})")] == list(columns)
    assert query(path, "PRAGMA application_id") == [(0x43414E42,)]
    assert query(path, "PRAGMA user_version") == [(1,)]
    assert query(path, "PRAGMA integrity_check") == [("ok",)]


def test_other_tools_read_times_numbers_and_what_is_unknown(path: Path) -> None:
    written(path, settled(1, latency_s=1.5, input_tokens=3))
    seen = "started_at, strftime('%H:%M', started_at), typeof(latency_s), typeof(input_tokens), output_tokens"
    (row,) = query(path, f"SELECT {seen} FROM calls")
    assert row == ("2026-03-01T12:30:15.124456Z", "12:30", "real", "integer", None)


def test_requests_and_tools_are_found_by_their_call_without_a_search(path: Path) -> None:
    written(path, settled(1))
    for table in ("calls", "requests", "tools"):
        ((*_, plan),) = query(path, f"EXPLAIN QUERY PLAN SELECT * FROM {table} WHERE call_id = 'x'")
        assert "USING INDEX" in plan


def test_a_closed_file_has_nothing_beside_it(path: Path) -> None:
    written(path, settled(1))
    assert list(path.parent.iterdir()) == [path]
    DatabaseWriter(path).close()
    assert list(path.parent.iterdir()) == [path]


# Processes that end, and several of them.

WRITE_UNTIL_KILLED = """
import sys, time
from settled_calls import settled
from createagents_nb.metrics.sqlite import DatabaseWriter
writer = DatabaseWriter(sys.argv[1])
for number in range(1_000_000):
    writer.call_settled(settled(number))
    time.sleep(0.0005)
"""
WRITE_AND_EXIT = """
import sys
from settled_calls import settled
from createagents_nb.metrics.sqlite import DatabaseWriter
writer = DatabaseWriter(sys.argv[1])
print("ready", flush=True)
sys.stdin.read(1)
first = int(sys.argv[2])
for number in range(first, first + 300):
    writer.call_settled(settled(number))
    if number % 100 == 0:
        writer.flush(20)
"""


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", script, *map(str, arguments)],
        cwd=Path(__file__).parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_killed_process_leaves_whole_calls_and_a_file_that_goes_on(path: Path) -> None:
    process = start(WRITE_UNTIL_KILLED, path)
    try:
        wait_for(lambda: path.exists() and path.stat().st_size > 0)
        wait_for(lambda: process.poll() is not None or len(read_database(path)) > 200)
        seen = len(read_database(path))
    finally:
        process.kill()
        process.communicate()
    found = read_database(path)
    assert len(found) >= seen > 200
    assert found == [settled(number) for number in range(len(found))]
    assert len(written(path, settled(len(found)))) == len(found) + 1
    assert query(path, "PRAGMA integrity_check") == [("ok",)]


def test_two_processes_write_to_one_file_at_once_and_what_waits_when_they_exit(path: Path) -> None:
    processes = [start(WRITE_AND_EXIT, path, first) for first in (0, 300)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("x")
        process.stdin.flush()
    assert [process.communicate(timeout=60)[1] for process in processes] == ["", ""]
    assert read_database(path) == [settled(number) for number in range(600)]
    # Two that end at the same moment may each leave it to the other to make one file of it; the next one does.
    assert DatabaseWriter(path).close(20)
    assert list(path.parent.iterdir()) == [path]
    assert len(read_database(path)) == 600


def test_a_writer_that_nobody_has_any_more_writes_what_waits_and_ends(path: Path) -> None:
    writer = DatabaseWriter(path)
    writer.call_settled(settled(1))
    gone = weakref.ref(writer)
    del writer
    gc.collect()
    assert gone() is None
    wait_for(lambda: recorder_threads() == [])
    assert read_database(path) == [settled(1)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_writes_nothing_and_harms_nothing(path: Path) -> None:
    script = f"""
    import gc, os, sys, warnings
    from settled_calls import settled
    from createagents_nb.metrics.sqlite import DatabaseWriter
    writer = DatabaseWriter({str(path)!r})
    writer.call_settled(settled(1))
    assert writer.flush(20)
    warnings.simplefilter("ignore", DeprecationWarning)  # a process with threads forks
    child = os.fork()
    if not child:
        writer.call_settled(settled(2))
        assert not writer.flush() and not writer.close()
        del writer
        gc.collect()
        sys.exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    writer.call_settled(settled(3))
    assert writer.close(20)
    """
    ended = run_script(script)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert read_database(path) == [settled(1), settled(3)]


# Files of earlier versions.


def earlier(path: Path) -> None:
    """As the first version wrote it, which knew no adjusted requests."""
    written(path, settled(1))
    query(path, "ALTER TABLE requests DROP COLUMN context_window")
    query(path, "ALTER TABLE requests DROP COLUMN adjusted")
    query(path, "ALTER TABLE calls DROP COLUMN finish_reason")


def test_a_file_of_an_earlier_version_is_read_as_it_is(path: Path) -> None:
    earlier(path)
    before = path.read_bytes()
    assert read_database(path) == [settled(1)]
    assert path.read_bytes() == before


def test_a_file_of_an_earlier_version_is_added_to(path: Path) -> None:
    earlier(path)
    new = SettledCall(call(2), (request(2, adjusted="without stream_options"),))
    assert written(path, new) == [settled(1), new]


# Files that cannot be used.


def other_program(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE calls (call_id)")
        connection.commit()


def newer(path: Path) -> None:
    written(path, settled(1))
    query(path, "PRAGMA user_version=3")


def other_columns(path: Path) -> None:
    written(path, settled(1))
    query(path, "ALTER TABLE tools ADD COLUMN colour")


def no_table(path: Path) -> None:
    written(path, settled(1))
    query(path, "DROP TABLE requests")


def truncated(path: Path) -> None:
    written(path, settled(1))
    os.truncate(path, 5000)


def zeroed(path: Path) -> None:
    written(path, settled(1))
    content = path.read_bytes()
    path.write_bytes(content[:100] + bytes(len(content) - 100))


def text(path: Path) -> None:
    path.write_text("agent,model\n" * 1000, encoding="utf-8")


def one_byte(path: Path) -> None:
    path.write_bytes(b"x")


UNUSABLE = [
    (other_program, "is not a file of recorded calls: it is left as it is; choose another file"),
    (text, "is not an SQLite file"),
    (one_byte, "is not a file of recorded calls"),
    (newer, r"was written by a newer createagents-nb \(format 3; this one reads 1\): upgrade"),
    (other_columns, r"is damaged \(its table tools is not that of format 1\): move it away"),
    (no_table, r"is damaged \(its table requests"),
    (truncated, r"is damaged \(database disk image is malformed\): move it away"),
    (zeroed, r"is damaged \(database disk image is malformed\)"),
    (Path.mkdir, r"is a folder: give the path of a file, such as .*runs\.db.runs\.db"),
]


@pytest.mark.parametrize(("make", "message"), UNUSABLE, ids=lambda it: getattr(it, "__name__", ""))
def test_a_file_that_cannot_be_used_is_told_and_left_as_it_is(
    path: Path, make: Callable[[Path], None], message: str
) -> None:
    make(path)
    before = None if path.is_dir() else path.read_bytes()
    with pytest.raises(RecorderFileError, match=message):
        read_database(path)
    with told(f"Calls are kept in memory only: .*{message}"):
        writer = DatabaseWriter(path)
        writer.call_settled(settled(1))
        assert not writer.flush()
        assert not writer.close()
    assert writer.trouble is not None
    assert recorder_threads() == []
    assert before == (None if path.is_dir() else path.read_bytes())


@pytest.mark.parametrize("name", ["none/runs.db", "file/runs.db", "n" * 300, "a\0b", "/proc/runs.db"])
def test_a_file_that_cannot_be_made_is_told(tmp_path: Path, name: str) -> None:
    if name.startswith("/proc") and not Path("/proc/self").exists():
        pytest.skip("no /proc")
    (tmp_path / "file").write_text("a file", encoding="utf-8")
    with told("Calls are kept in memory only"):
        writer = DatabaseWriter(tmp_path / name)
    assert writer.trouble is not None
    writer.call_settled(settled(1))
    assert not writer.flush()
    assert not writer.close()
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
    with pytest.raises(RecorderFileError):
        read_database(tmp_path / name)


def test_the_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with told(f"folder does not exist: create {tmp_path / 'none'}"):
        DatabaseWriter(tmp_path / "none" / "runs.db")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_refused_without_waiting_for_its_other_end(path: Path) -> None:
    os.mkfifo(path)
    with told("is not a regular file"):
        DatabaseWriter(path)
    with pytest.raises(RecorderFileError, match="is not a regular file"):
        read_database(path)


def test_to_read_a_file_that_does_not_exist_does_not_make_it(path: Path) -> None:
    with pytest.raises(RecorderFileError, match=r"does not exist: `recorder\.persist\(path\)` starts such a file"):
        read_database(path)
    assert list(path.parent.iterdir()) == []


def test_an_empty_file_is_told_to_readers_and_filled_by_writers(path: Path) -> None:
    path.touch()
    with pytest.raises(RecorderFileError, match="is empty"):
        read_database(path)
    assert written(path, settled(1)) == [settled(1)]


def test_what_is_damaged_inside_is_told_when_it_is_read(path: Path) -> None:
    calls = [settled(number, prompt="x" * 2000) for number in range(200)]
    written(path, *calls)
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(b"\xff" * 20_000)
    with pytest.raises(RecorderFileError, match="is damaged"):
        read_database(path)


@pytest.mark.parametrize("change", ["started_at = 'yesterday'", "started_at = 5", "model = CAST(x'ff' AS TEXT)"])
def test_what_other_tools_have_spoilt_is_told(path: Path, change: str) -> None:
    written(path, settled(1))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"UPDATE calls SET {change}")
        connection.commit()
    with pytest.raises(RecorderFileError, match="is damaged"):
        read_database(path)


@pytest.mark.usefixtures("impatient")
def test_a_file_that_another_program_keeps_to_itself_is_told_to_readers(path: Path) -> None:
    written(path, settled(1))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        with pytest.raises(RecorderFileError, match=r"is locked by another program.*: end that program"):
            read_database(path)


READ_ONLY = """
import os, sys, warnings
from pathlib import Path
from createagents_nb.metrics.sqlite import read_database
folder = Path(sys.argv[1])
read_database(folder / "closed.db")  # what is imported late is imported now
for file in folder.iterdir():
    file.chmod(0o444)
folder.chmod(0o555)
if os.geteuid() == 0:  # permissions mean nothing to root
    os.seteuid(65534)
before = sorted(os.listdir(folder))
print(*[len(read_database(folder / name)) for name in ("closed.db", "copied.db", "killed.db")])
assert sorted(os.listdir(folder)) == before
"""


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX permissions")
def test_files_are_read_where_nothing_can_be_written() -> None:
    folder = Path(tempfile.mkdtemp())  # pytest's own folders are in one that is closed to other users
    folder.chmod(0o755)
    try:
        written(folder / "closed.db", settled(1))
        writer = DatabaseWriter(folder / "used.db")
        writer.call_settled(settled(1))
        assert writer.flush()
        query(folder / "used.db", "PRAGMA wal_checkpoint(FULL)")  # now the call is in the file itself
        shutil.copy(folder / "used.db", folder / "copied.db")
        writer.call_settled(settled(2))
        assert writer.flush()
        for end in ("", "-wal", "-shm"):
            shutil.copy(folder / f"used.db{end}", folder / f"killed.db{end}")
        assert writer.close()
        process = start(READ_ONLY, folder)
        out, errors = process.communicate(timeout=60)
        assert (out, errors) == ("1 1 2\n", "")
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)


# Trouble that passes.


@pytest.mark.usefixtures("impatient")
def test_a_lock_is_told_once_and_waited_for(path: Path) -> None:
    writer = DatabaseWriter(path)
    with told(r"wait in memory: .*locked by another program.*: end that"):
        for number in (1, 2):
            with locked(path):
                writer.call_settled(settled(number))
                wait_for(lambda: writer.trouble)
                assert not writer.flush(0.05)
            assert writer.flush(20)
            assert writer.trouble is None
    assert writer.close()
    assert read_database(path) == [settled(1), settled(2)]


@pytest.mark.usefixtures("impatient")
def test_a_file_that_is_locked_at_first_is_written_later(path: Path) -> None:
    written(path)
    with told("locked by another program"):
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("BEGIN EXCLUSIVE")
            writer = DatabaseWriter(path)
            assert writer.trouble is not None
            writer.call_settled(settled(1))
        wait_for(lambda: writer.trouble is None)
    assert writer.close()
    assert read_database(path) == [settled(1)]


@pytest.mark.usefixtures("impatient")
def test_a_warning_that_is_an_error_does_not_stop_the_writer(path: Path) -> None:
    writer = DatabaseWriter(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with locked(path):
            writer.call_settled(settled(1))
            wait_for(lambda: writer.trouble)
    assert writer.flush(20)
    assert writer.trouble is None
    assert writer.close()
    assert read_database(path) == [settled(1)]


@pytest.mark.usefixtures("impatient")
def test_what_could_not_be_written_before_the_end_is_told(path: Path) -> None:
    writer = DatabaseWriter(path)
    with (
        locked(path),
        told("kept in memory only: .* locked", r"Left unwritten at the end \(calls: 1\): .* locked"),
    ):
        writer.call_settled(settled(1))
        assert not writer.close(0)
        wait_for(lambda: recorder_threads() == [])


@pytest.mark.usefixtures("impatient")
def test_the_newest_hundred_thousand_calls_wait(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sqlite_writer.MAX_WAITING == 100_000
    monkeypatch.setattr(sqlite_writer, "MAX_WAITING", 1_000)
    writer = DatabaseWriter(path)
    with told("locked by another program", "for so long that the oldest are not kept there") as caught:
        with locked(path):
            for number in range(2_000):
                writer.call_settled(SettledCall(call(number)))
            wait_for(lambda: len(caught) == 2)
            assert not writer.flush(0)
        assert writer.close(20)
    kept = read_database(path)
    assert 1_000 <= len(kept) < 2_000
    assert kept == [SettledCall(call(number)) for number in range(2_000 - len(kept), 2_000)]


@pytest.mark.skipif(os.name == "nt", reason="needs a limit on the size of files")
def test_calls_wait_until_the_disk_has_room_again(path: Path) -> None:
    script = f"""
    import resource, warnings
    from settled_calls import settled, wait_for
    from createagents_nb.metrics.sqlite import DatabaseWriter
    writer = DatabaseWriter({str(path)!r})
    writer.call_settled(settled(0))
    assert writer.flush(20)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
        for number in range(1, 100):
            writer.call_settled(settled(number, prompt="x" * 10_000))
        wait_for(lambda: writer.trouble)
        assert not writer.flush(0.1)
        print(writer.trouble)
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert writer.flush(20)
    assert writer.trouble is None
    assert writer.close()
    (only,) = caught
    print(only.category.__name__, only.message)
    """
    ended = run_script(script)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "look whether the disk is full" in ended.stdout
    assert "RecorderWarning Calls are not being written, and wait in memory: " in ended.stdout
    assert len(read_database(path)) == 100


def test_one_call_that_cannot_be_written_does_not_take_others_with_it(path: Path) -> None:
    class Hostile:
        @property
        def call_id(self) -> str:
            raise ValueError("not today")

    writer = DatabaseWriter(path)
    hostile: Any = Hostile()
    with told("A call is not kept in .*: ValueError: not today"):
        for number, requests in enumerate([(), (hostile,), (hostile,), ()]):
            writer.call_settled(SettledCall(call(number), requests))
        assert not writer.flush()
    assert writer.close()
    assert read_database(path) == [SettledCall(call(0)), SettledCall(call(3))]


@pytest.mark.skipif(os.name == "nt", reason="a file in use cannot be deleted there")
def test_a_file_that_was_deleted_is_made_anew(path: Path) -> None:
    writer = DatabaseWriter(path)
    writer.call_settled(settled(1))
    assert writer.flush()
    for file in path.parent.iterdir():
        file.unlink()
    writer.call_settled(settled(2))
    assert writer.flush()
    assert writer.close()
    assert read_database(path) == [settled(2)]


@pytest.mark.skipif(os.name == "nt", reason="a file in use cannot be replaced there")
def test_a_file_that_was_put_in_its_place_is_left_as_it_is(path: Path) -> None:
    writer = DatabaseWriter(path)
    writer.call_settled(settled(1))
    assert writer.flush()
    other = path.with_name("other")
    other_program(other)
    before = other.read_bytes()
    other.replace(path)
    with told("is not a file of recorded calls"):
        writer.call_settled(settled(2))
        assert not writer.flush()
    assert writer.trouble is not None
    assert not writer.close()
    assert path.read_bytes() == before


@pytest.mark.skipif(os.name == "nt", reason="a folder in use cannot be moved there")
def test_a_folder_that_was_gone_for_a_while_is_waited_for(tmp_path: Path) -> None:
    folder = tmp_path / "drive"
    folder.mkdir()
    writer = DatabaseWriter(folder / "runs.db")
    writer.call_settled(settled(1))
    assert writer.flush()
    folder.rename(tmp_path / "away")
    with told(r"wait in memory: .*folder does not exist"):
        writer.call_settled(settled(2))
        assert not writer.flush(0.2)
        wait_for(lambda: writer.trouble)
    (tmp_path / "away").rename(folder)
    assert writer.flush(20)
    assert writer.close()
    assert read_database(folder / "runs.db") == [settled(1), settled(2)]
