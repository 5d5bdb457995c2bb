"""``readlocalfile`` under attack: whole turns over HTTP in which a model asks for what it must not have."""

from __future__ import annotations

import json
import os
import socket
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from family import ScriptedServer
from tool_turns import Talk

from createagents_nb.builtin_tools import ReadLocalFileTool

pytestmark = pytest.mark.once

SECRET = "the secret"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What may be read, beside what may not."""
    inside = tmp_path / "inside"
    (inside / "sub").mkdir(parents=True)
    (inside / "sub" / "a.txt").write_text("fine")
    (tmp_path / "secret.txt").write_text(SECRET)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "a.txt").write_text(SECRET)
    return inside


def read(folder: Path, path: str, **options: Any) -> str:
    return ReadLocalFileTool(root=folder, **options).execute(path=path)


def attacked(folder: Path) -> dict[str, str]:
    """Paths that a model may give, and what it is told."""
    (folder / "to-file").symlink_to(folder.parent / "secret.txt")
    (folder / "to-folder").symlink_to(folder.parent)
    (folder / "to-dev").symlink_to("/dev/zero")
    (folder / ".env").write_text(SECRET)
    (folder / "env").symlink_to(".env")
    (folder / "id_rsa").write_text(f"-----BEGIN OPENSSH PRIVATE KEY-----\n{SECRET}\n")
    os.mkfifo(folder / "pipe")
    with (folder / "sparse.csv").open("wb") as sparse:
        sparse.truncate(1 << 40)
    outside = "is outside the allowed folder"
    return {
        "../secret.txt": outside,
        "sub/../../secret.txt": outside,
        "sub/./../..//secret.txt": outside,
        str(folder.parent / "secret.txt"): outside,
        f"{folder}/../secret.txt": outside,
        "to-file": outside,
        "to-folder/secret.txt": outside,
        "to-folder/": outside,
        "to-dev": outside,
        "/dev/stdin": outside,
        "/proc/self/environ": outside,
        "//server/share/a.txt": outside,
        "\\\\server\\share\\a.txt": outside,
        "/\\server/share": outside,
        "\\\\?\\C:\\secret.txt": outside,
        "~/secret.txt": "there is no file",
        "file:///etc/passwd": "there is no file",
        "%2e%2e/secret.txt": "there is no file",
        "..\\secret.txt": "is hidden",
        ".env": "is hidden",
        "env": "is hidden",
        ".ENV": "is hidden",
        "sub/../.env": "is hidden",
        "id_rsa": "is a private key",
        "pipe": "is not a regular file",
        "sparse.csv": "has 1,099,511,627,776 bytes, more than",
        "a\0b": "null character",
        "\ud800": "there is no file",  # the half of a pair is U+FFFD when it arrives
        "a\nb": "there is no file",
        "x" * 300: "cannot be followed",
        "a/" * 5000: "there is no file",
    }


@pytest.mark.asyncio
async def test_a_model_gets_nothing_that_it_must_not_have(server: ScriptedServer, folder: Path) -> None:
    paths = attacked(folder)
    talk = Talk(server, ReadLocalFileTool(root=folder))
    asked = [*paths, "sub/a.txt"]
    await talk.turn(*["readlocalfile"] * len(asked), arguments=[json.dumps({"path": path}) for path in asked])
    *refused, fine = talk.told()
    for (path, words), told in zip(paths.items(), refused, strict=True):
        assert words in told, (path, told)
        assert SECRET not in told
    assert fine == "sub/a.txt: text, 1 line\n\nfine"
    await talk.nothing_is_left()


@pytest.mark.parametrize("path", ["sub/a.txt", "sub"])
def test_a_folder_that_becomes_a_link_meanwhile_leads_nowhere(folder: Path, path: str) -> None:
    """Another program swaps the folder for a link to one outside, back and forth, while the tool reads."""
    (folder.parent / "outside" / "b.txt").write_text("")
    (folder / "link").symlink_to(folder.parent / "outside")
    done = threading.Event()

    def swap() -> None:
        while not done.is_set():
            for name, other in (("sub", "link"), ("link", "sub")):
                (folder / name).rename(folder / "aside")
                (folder / other).rename(folder / name)
                (folder / "aside").rename(folder / other)

    swapping = threading.Thread(target=swap)
    swapping.start()
    seen = set()
    try:
        for _ in range(1500):
            with suppress(OSError, ValueError):
                seen.add(read(folder, path))
    finally:
        done.set()
        swapping.join()
    assert not [told for told in seen if SECRET in told or "b.txt" in told]


def test_a_file_that_grows_while_it_is_read_is_not_read_for_ever(folder: Path) -> None:
    done = threading.Event()
    grows = folder / "grows.txt"

    def write() -> None:
        with grows.open("wb", buffering=0) as file:
            while not done.is_set() and file.tell() < 100_000_000:
                file.write(b"x" * 65_536)

    def read_on() -> None:
        while True:
            with suppress(FileNotFoundError):
                read(folder, "grows.txt", max_bytes=200_000)

    writing = threading.Thread(target=write)
    writing.start()
    try:
        with pytest.raises(ValueError, match=r"more than the 200,000 that are read"):
            read_on()
    finally:
        done.set()
        writing.join()


@pytest.mark.skipif(not Path("/proc/self/pagemap").exists(), reason="no /proc")
def test_files_whose_size_is_said_to_be_none_are_read_as_far_as_allowed() -> None:
    assert "Name:" in read(Path("/proc/self"), "status")
    with pytest.raises((ValueError, PermissionError)):
        read(Path("/proc/self"), "pagemap", max_bytes=1_000_000)
    with pytest.raises((ValueError, PermissionError)):
        read(Path("/proc/self"), "mem")


def test_devices_sockets_and_pipes_are_never_opened(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(folder / "pipe.csv")
    monkeypatch.chdir(folder)  # the path of a socket may have about 100 characters
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("sock.txt")
        for name in ("pipe.csv", "sock.txt"):
            with pytest.raises(ValueError, match="not a regular file"):
                read(folder, name)
    for device in ("zero", "null", "random", "tty", "stdin"):
        with pytest.raises((ValueError, OSError)):
            read(Path("/dev"), device)


def test_a_name_cannot_pretend_to_be_two(folder: Path) -> None:
    (folder / "a\n.. is a folder\n\x1b[31m").write_text("x")
    listed = read(folder, ".")
    assert listed == ". is a folder with 2 entries:\na\\n.. is a folder\\n\\x1b[31m\nsub/"
    told = read(folder, "a\n.. is a folder\n\x1b[31m")
    assert told == "a\\n.. is a folder\\n\\x1b[31m: text, 1 line\n\nx"
    with pytest.raises(FileNotFoundError) as caught:
        read(folder, "a\n.. is a folder")
    assert "\n" not in str(caught.value)


def test_a_name_that_is_no_unicode_is_listed(folder: Path) -> None:
    try:
        Path(os.fsdecode(os.fsencode(folder) + b"/\xff.txt")).write_text("x")
    except OSError:
        pytest.skip("this file system takes Unicode only")
    assert "\\udcff.txt" in read(folder, ".")
    assert read(folder, "\udcff.txt").endswith("x")


def test_a_folder_of_very_many_files_is_listed_in_part(folder: Path) -> None:
    for number in range(300):
        (folder / "sub" / f"{number:03}.txt").touch()
    listed = read(folder, "sub")
    assert "is a folder with 301 entries:\n000.txt\n" in listed
    assert listed.endswith("199.txt\n… and 101 more")


def test_private_keys_and_hidden_files_are_read_where_that_is_wanted(folder: Path) -> None:
    attacked(folder)
    for name in ("id_rsa", ".env", "env"):
        assert SECRET in read(folder, name, hidden=True)
    with pytest.raises(PermissionError, match="outside"):
        read(folder, "to-file", hidden=True)
    (folder / "manual.md").write_text("A key begins with -----BEGIN PRIVATE KEY-----")
    assert "A key begins" in read(folder, "manual.md")


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf-----BEGIN RSA PRIVATE KEY-----\n",
        "-----BEGIN RSA PRIVATE KEY-----\n".encode("utf-16"),
        "-----BEGIN RSA PRIVATE KEY-----\n".encode("utf-32"),
        b"Bag Attributes\n    localKeyID: 01\nKey Attributes: <No Attributes>\n-----BEGIN PRIVATE KEY-----\n",
        b"# mine\r\n\t-----BEGIN EC PRIVATE KEY-----\r\n",
        b"-----BEGIN PGP PRIVATE KEY BLOCK-----\n",
        b"PuTTY-User-Key-File-3: ssh-ed25519\n",
    ],
)
def test_a_private_key_is_known_behind_what_programs_write_above_it(folder: Path, content: bytes) -> None:
    (folder / "key.txt").write_bytes(content + SECRET.encode())
    with pytest.raises(PermissionError, match="is a private key"):
        read(folder, "key.txt")


@pytest.mark.parametrize(
    "content",
    [
        "A key begins with -----BEGIN PRIVATE KEY-----",
        "-----BEGIN CERTIFICATE-----\nMII\n",
        "-----BEGIN PUBLIC KEY-----\nMII\n",
        "line\n" * 2000 + "-----BEGIN PRIVATE KEY-----\n",
        "the first line of a .ppk is PuTTY-User-Key-File-3: ssh-rsa",
    ],
)
def test_a_text_about_keys_is_read(folder: Path, content: str) -> None:
    (folder / "manual.md").write_text(content)
    assert content.splitlines()[0] in read(folder, "manual.md")


def test_the_way_to_a_file_need_not_be_listable() -> None:
    """A folder that may be entered and not be listed, as one sees it who is not root."""
    # Below a folder of its own, for tmp_path cannot be entered by another user.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        way = Path(folder) / "way"
        way.mkdir()
        (way / "a.txt").write_text("fine")
        way.chmod(0o311)
        user = os.geteuid()
        if user == 0:  # who may list everything
            os.seteuid(65534)
        try:
            assert read(Path(folder), "way/a.txt").endswith("fine")
            with pytest.raises(PermissionError, match="may not be read"):
                read(Path(folder), "way")
        finally:
            os.seteuid(user)
            way.chmod(0o755)
