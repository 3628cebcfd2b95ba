import gzip
import hashlib
import io
import tarfile

import pytest

from foldwise.sources.archives import Original, Refused, Remote, unpacked

CONTENT = bytes(range(200))
MD5 = "md5:" + hashlib.md5(CONTENT).hexdigest()
ORIGINAL = Original("images", 200, MD5)
REMOTE = Remote("images.gz", (ORIGINAL,))


def archive(members):
    """A .tar.gz of (name, content) pairs; a string as content makes a symbolic link to it."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


def archived(content):
    """The remote that is proved by the digest of its archive alone."""
    originals = Original("a.bin", 3), Original("b.bin", 4)
    return Remote("set.tar.gz", originals, "sha256:" + hashlib.sha256(content).hexdigest(), folder="set")


def contents(content, remote):
    return {original.name: unpacked_content for original, unpacked_content in unpacked(content, remote)}


@pytest.mark.parametrize("name", ["", ".", "/etc/passwd", "..", "../a.png", "cat/../../a.png"])
def test_a_name_that_leaves_the_folder_is_refused_when_the_entry_is_made(name):
    with pytest.raises(ValueError, match="is no path within a folder"):
        Original(name, 3)


@pytest.mark.parametrize(("top", "folder"), [("set/", "set"), ("./set/", "set"), ("./", "."), ("", ".")])
def test_members_in_subfolders_are_taken_out_wherever_the_archive_has_its_top(top, folder):
    content = archive([(f"{top}{name}/1.png", name.encode()) for name in ("cat", "dog")])
    remote = Remote(
        "set.tar.gz",
        tuple(Original(f"{name}/1.png", 3, "md5:" + hashlib.md5(name.encode()).hexdigest()) for name in ("cat", "dog")),
        folder=folder,
    )
    assert contents(content, remote) == {"cat/1.png": b"cat", "dog/1.png": b"dog"}


def test_an_archive_of_many_small_files_is_within_its_limit():
    names = [f"set/{i}/{'x' * 100}" for i in range(2000)]
    content = archive([(name, b"") for name in names])
    remote = Remote("set.tar.gz", tuple(Original(name, 0) for name in names), folder="set")
    assert len(gzip.compress(gzip.decompress(content), 0)) < remote.limit


@pytest.mark.parametrize("level", [0, 1, 9])
def test_a_gzipped_original_is_unpacked_however_it_was_packed(level):
    assert contents(gzip.compress(CONTENT, level), REMOTE) == {"images": CONTENT}


def test_a_plain_original_is_taken_as_it_is():
    assert contents(CONTENT, REMOTE) == {"images": CONTENT}


def test_an_original_without_a_digest_is_proved_by_that_of_its_packed_file():
    packed = gzip.compress(CONTENT)
    remote = Remote("images.gz", (Original("images", 200),), "md5:" + hashlib.md5(packed).hexdigest())
    assert contents(packed, remote) == {"images": CONTENT}


def test_only_the_wanted_members_are_taken_out_of_an_archive():
    content = archive([("set/a.bin", b"aaa"), ("set/readme", b"x"), ("../../b.bin", b"evil"), ("set/b.bin", b"bbbb")])
    assert contents(content, archived(content)) == {"a.bin": b"aaa", "b.bin": b"bbbb"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (CONTENT[::-1], "other bytes than the original's"),
        (CONTENT[:-1], "other bytes than the original's"),
        (b"", "other bytes than the original's"),
        (b"\n<!DOCTYPE html><html>sign in</html>", "a web page"),
        (b"<HTML></HTML>", "a web page"),
        (CONTENT + b"\0", "more than the 200 bytes of images"),
        (gzip.compress(bytes(10**6)), "more than the 200 bytes of images"),
        (gzip.compress(CONTENT)[:-12], "not a whole archive"),
        (b"\x1f\x8b\x08\x00nonsense", "not a whole archive"),
        (b"\x1f\x8b", "not a whole archive"),
    ],
    ids=["other", "short", "empty", "html", "HTML", "long", "bomb", "cut", "nonsense", "magic"],
)
def test_what_is_not_the_original_is_refused(content, reason):
    with pytest.raises(Refused) as caught:
        contents(content, REMOTE)
    assert str(caught.value) == reason


def test_a_bomb_is_not_unpacked_beyond_the_size_of_the_original(monkeypatch):
    read = []
    whole = gzip.GzipFile.read
    monkeypatch.setattr(gzip.GzipFile, "read", lambda self, size: read.append(size) or whole(self, size))
    with pytest.raises(Refused):
        contents(gzip.compress(bytes(10**6)), REMOTE)
    assert read == [201]


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ([("set/a.bin", b"aaa")], "holds no set/b.bin"),
        ([("set/a.bin", b"aaa"), ("set/b.bin", "/etc/passwd")], "holds no set/b.bin"),
        ([("set/a.bin", b"aaa"), ("b.bin", b"bbbb")], "holds no set/b.bin"),
        ([("set/a.bin", b"aaaa")], "more than the 3 bytes of a.bin"),
        ([("set/a.bin", b"aa")], "fewer than the 3 bytes of a.bin"),
    ],
    ids=["missing", "link", "elsewhere", "long", "short"],
)
def test_an_archive_of_the_right_digest_is_still_not_trusted(members, reason):
    content = archive(members)
    with pytest.raises(Refused) as caught:
        contents(content, archived(content))
    assert str(caught.value) == reason


def test_an_archive_of_another_digest_is_not_even_opened(monkeypatch):
    content = archive([])
    monkeypatch.setattr(tarfile, "open", None)
    with pytest.raises(Refused, match="other bytes than the original's"):
        contents(content, archived(b""))


def test_an_archive_that_ends_too_soon_is_refused():
    content = archive([("set/a.bin", bytes(3))])[:-20]
    with pytest.raises(Refused, match="not a whole archive"):
        contents(content, archived(content))


def test_a_mirror_may_hold_a_file_unpacked_only_where_that_can_be_proved():
    assert REMOTE.names == ("images.gz", "images")
    assert Remote("images.gz", (Original("images", 200),), MD5).names == ("images.gz",)
    assert Remote("set.tar.gz", (ORIGINAL,), folder="set").names == ("set.tar.gz",)
