"""The files of a payload, and what the media cannot hold."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest
from ansible_collections.golden.libvirt.plugins.module_utils._core.errors import InvalidError
from ansible_collections.golden.libvirt.plugins.module_utils._core.payload.payload_files import (
    CDROM,
    FLOPPY,
    FLOPPY_CLUSTER,
    FLOPPY_CLUSTERS,
    PayloadFile,
    check_files,
    check_volume_id,
    describe,
    file_of,
    folder_of,
)
from hypothesis import given
from hypothesis import strategies as st

MEDIA = pytest.mark.parametrize("medium", [CDROM, FLOPPY])
LARGE = 2 * 1024 * 1024


def named(*names: str) -> list[PayloadFile]:
    """Return files of these names."""
    return [PayloadFile(name, b"x") for name in names]


def refused(files: list[PayloadFile], medium: str, max_file_size: int = LARGE) -> str:
    """Return why files are refused."""
    with pytest.raises(InvalidError) as caught:
        check_files(files, medium, max_file_size)
    return caught.value.message


def test_text_is_stored_as_utf8_and_base64_as_its_bytes() -> None:
    assert file_of("a", "né\r\n") == PayloadFile("a", b"n\xc3\xa9\r\n")
    assert file_of("a", "AAH/", "base64") == PayloadFile("a", b"\x00\x01\xff")
    assert file_of("a", "", "base64").content == b""


@given(st.binary(max_size=200))
def test_base64_may_have_line_breaks(content: bytes) -> None:
    assert file_of("a", base64.encodebytes(content).decode("ascii"), "base64").content == content


@pytest.mark.parametrize("text", ["geheim", "Z2Vo*W0=", "Z2VoZWlt=", "Z2VoZWk", "YR==", "YQ==YQ==", "Z2Vo ZWlt", "é"])
def test_what_is_no_base64_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(InvalidError, match=r"^file 'a': the content is not valid base64; .*b64encode") as caught:
        file_of("a", text, "base64")
    assert text not in caught.value.message.replace("file 'a'", "")


def test_bytes_that_were_no_text_are_refused_without_showing_them() -> None:
    with pytest.raises(InvalidError, match=r"^file 'a': the content is no valid UTF-8 text; .*base64$") as caught:
        file_of("a", "secret\udcff")
    assert caught.value.__suppress_context__


def test_the_content_is_in_no_representation() -> None:
    files = [PayloadFile("a", b"secret"), PayloadFile("f/b", b"secret")]
    assert "secret" not in repr(files) + repr(folder_of(files)) + repr(describe(files))


def test_the_description_is_sorted() -> None:
    assert describe([PayloadFile("b", b"22"), PayloadFile("a", b"")]) == [
        {"name": "a", "size": 0, "sha256": hashlib.sha256(b"").hexdigest()},
        {"name": "b", "size": 2, "sha256": hashlib.sha256(b"22").hexdigest()},
    ]


@MEDIA
@pytest.mark.parametrize(
    "name",
    [
        "user-data", ".hidden", "a.b.c", "UPPER", "a b", "x+y=z,[1]~#%&{}'@!^()", "каталог/файл.txt", "文件",
        "😀", "👨‍👩‍👧.png", "a/b/c/d/e/f/g/h", "con", "ß", "e\u0301",
    ],
)  # fmt: skip
def test_a_file_may_be_called(name: str, medium: str) -> None:
    check_files(named(name), medium, LARGE)
    assert refused(named(name), medium, 0).startswith(f"file {name!r} has 1 bytes")


@MEDIA
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("/etc/passwd", "the name is absolute; leave out the '/'"),
        ("", "an empty part is not allowed"),
        ("a//b", "an empty part is not allowed"),
        ("a/", "an empty part is not allowed"),
        (".", "'.' is not allowed"),
        ("./a", "'.' is not allowed"),
        ("..", "'..' is not allowed"),
        ("../a", "'..' is not allowed"),
        ("a/../../b", "'..' is not allowed"),
        ("a\0b", "U+0000 is not allowed"),
        ("a\nb", "U+000A is not allowed"),
        ("a\x1b[2Jb", "U+001B is not allowed"),
        ("a\x7fb", "U+007F is not allowed"),
        ("a\x85b", "U+0085 is not allowed"),
        ("a\u2028b", "U+2028 is not allowed"),
        ("a\uffffb", "U+FFFF is not allowed"),
        ("a\U0001fffeb", "U+1FFFE is not allowed"),
        ("a\ufdd0b", "U+FDD0 is not allowed"),
        ("a\udcffb", "U+DCFF is not allowed"),
        ("a\\b", r"cannot have '\\' in a name"),
        ("a*", "cannot have '*' in a name"),
        ("a?", "cannot have '?' in a name"),
        ("C:", "cannot have ':' in a name"),
        ("a.", "'a.' ends in a dot or a blank"),
        ("a ", "'a ' ends in a dot or a blank"),
        ("f /a", "'f ' ends in a dot or a blank"),
        ("...", "'...' ends in a dot or a blank"),
    ],
)
def test_a_file_may_not_be_called(name: str, said: str, medium: str) -> None:
    message = refused(named("good", name), medium)
    assert message.startswith(f"file {name!r}")
    assert said in message


@pytest.mark.parametrize(
    ("medium", "other", "characters"), [(CDROM, FLOPPY, ";"), (FLOPPY, CDROM, '"'), (FLOPPY, CDROM, "<>|")]
)
def test_what_one_medium_forbids_the_other_may_hold(medium: str, other: str, characters: str) -> None:
    for character in characters:
        check_files(named(f"a{character}b"), other, LARGE)
        assert f"cannot have {character!r} in a name" in refused(named(f"a{character}b"), medium)


@MEDIA
@pytest.mark.parametrize(
    ("first", "second"),
    [("readme", "README"), ("É", "é"), ("\u00e9", "e\u0301"), ("f/a", "F/b"), ("f/a", "F"), ("ЯЩИК", "ящик")],
)
def test_no_two_names_that_the_medium_takes_for_one(first: str, second: str, medium: str) -> None:
    message = refused(named(first, second), medium)
    assert re.search(r"^'.*' and '.*' differ only by case or by the composition of a letter; .*rename one", message)


@MEDIA
def test_a_file_is_no_folder_and_is_given_once(medium: str) -> None:
    for names in (("a", "a/b"), ("a/b", "a"), ("x/a/b/c", "x/a")):
        assert "is a file and also the folder of another file" in refused(named(*names), medium)
    assert refused(named("a/b", "a/b"), medium) == "file 'a/b' is given twice; give it once"
    check_files(named("a/b", "a/c", "b/a", "b/c"), medium, LARGE)
    assert "no files; give at least one" in refused([], medium)


@MEDIA
def test_the_size_of_a_file(medium: str) -> None:
    check_files([PayloadFile("a", bytes(16384))], medium, 16384)
    assert refused([PayloadFile("a", bytes(16385))], medium, 16384) == (
        "file 'a' has 16385 bytes, more than max_file_size (16384 bytes, 16KiB); raise max_file_size, or make the "
        "file smaller"
    )


@pytest.mark.parametrize(
    ("medium", "longest", "too_long", "said"),
    [
        (CDROM, "x" * 64, "x" * 65, "has 65 UTF-16 units, where a name on a CD can have 64"),
        (CDROM, "文" * 64, "文" * 65, "has 65 UTF-16 units"),
        (CDROM, "😀" * 32, "😀" * 33, "has 66 UTF-16 units"),
        (CDROM, "y" * 64 + "/a", "y" * 65 + "/a", "has 65 UTF-16 units"),
        (CDROM, "1/2/3/4/5/6/7/8", "1/2/3/4/5/6/7/8/9", "lies in 8 folders; a CD can have 7"),
        (
            CDROM,
            f"{'a' * 60}/{'b' * 58}/c",
            f"{'a' * 60}/{'b' * 59}/c",
            "takes 242 bytes on a CD, where a path can have 240",
        ),
        (FLOPPY, "x" * 255, "x" * 256, "has 256 UTF-16 units, where a name on a floppy can have 255"),
        (FLOPPY, "文" * 255, "文" * 256, "has 256 UTF-16 units"),
        (FLOPPY, "😀" * 127, "😀" * 128, "has 256 UTF-16 units"),
        (FLOPPY, f"{'a' * 200}/{'b' * 55}", f"{'a' * 200}/{'b' * 56}", "has 257 UTF-16 units, where a floppy's can"),
    ],
    ids=lambda value: value[:12],
)
def test_the_length_of_a_name(medium: str, longest: str, too_long: str, said: str) -> None:
    check_files(named(longest), medium, LARGE)
    assert said in refused(named(too_long), medium)


def test_the_root_directory_of_a_floppy() -> None:
    fits = [f"f{number}" for number in range(111)]
    check_files(named(*fits), FLOPPY, LARGE)
    message = refused(named(*fits, "one"), FLOPPY)
    assert "take 225 directory entries, and it has 224 there" in message
    assert "put them into a folder" in message
    check_files(named(*fits[:-1], "in/one", "in/two"), FLOPPY, LARGE)
    check_files(named(*fits, "one"), CDROM, LARGE)


def test_a_long_name_takes_more_entries() -> None:
    fits = [f"{number:013}" for number in range(111)]
    check_files(named(*fits), FLOPPY, LARGE)
    assert "take 224 " not in refused(named(*fits[:-1], "x" * 14, "y"), FLOPPY)
    check_files(named(*fits[:-2], "x" * 14), FLOPPY, LARGE)


def test_the_room_of_a_floppy() -> None:
    full = FLOPPY_CLUSTERS * FLOPPY_CLUSTER
    check_files([PayloadFile("a", bytes(full))], FLOPPY, LARGE)
    message = refused([PayloadFile("a", bytes(full)), PayloadFile("b", b"x")], FLOPPY)
    assert "take 2848 clusters of 512 bytes (1.4MiB), and a floppy has 2847" in message
    assert "'type: cdrom'" in message
    check_files([PayloadFile("a", bytes(full)), PayloadFile("empty", b"")], FLOPPY, LARGE)


def test_the_folders_of_a_floppy_take_room() -> None:
    full = FLOPPY_CLUSTERS * FLOPPY_CLUSTER
    check_files([PayloadFile("f/a", bytes(full - 512))], FLOPPY, LARGE)
    assert "take 2848 clusters" in refused([PayloadFile("f/a", bytes(full - 511))], FLOPPY)
    # 2 entries of its own and 7 files of 2 are one cluster; an eighth file makes a second one
    seven = named(*(f"f/{number}" for number in range(7)))
    rest = PayloadFile("rest", bytes(full - 512 * 8))
    check_files([*seven, rest], FLOPPY, LARGE)
    assert "take 2848 clusters" in refused([*seven, PayloadFile("f/7", b""), rest], FLOPPY)


@pytest.mark.parametrize(
    ("medium", "volume_id"),
    [(CDROM, "cidata"), (CDROM, "config-2"), (CDROM, "A_b.c-d890123456"), (FLOPPY, "CIDATA"), (FLOPPY, "a_b-c678901")],
)
def test_a_volume_may_be_called(medium: str, volume_id: str) -> None:
    assert check_volume_id(volume_id, medium) == volume_id


@pytest.mark.parametrize(
    ("medium", "volume_id", "said"),
    [
        (CDROM, "", "use 1 to 16 letters"),
        (CDROM, "x" * 17, "use 1 to 16 letters"),
        (CDROM, "é", "use 1 to 16 letters"),
        (CDROM, "a b", "use 1 to 16 letters"),
        (CDROM, "x\n", "use 1 to 16 letters"),
        (FLOPPY, "x" * 12, "use 1 to 11 letters"),
        (FLOPPY, "a.b", "use 1 to 11 letters"),
    ],
)
def test_a_volume_may_not_be_called(medium: str, volume_id: str, said: str) -> None:
    with pytest.raises(InvalidError, match=rf"^volume_id {re.escape(repr(volume_id))} is not valid for a .*{said}"):
        check_volume_id(volume_id, medium)


@given(st.permutations(["b", "a/c", "a/b/x", "a/é", "Z"]))
def test_the_order_of_the_files_does_not_count(names: list[str]) -> None:
    root = folder_of([PayloadFile(name, name.encode()) for name in names])
    assert list(root.files) == ["Z", "b"]
    assert list(root.folders["a"].files) == ["c", "é"]
    assert root.folders["a"].folders["b"].files == {"x": b"a/b/x"}


@MEDIA
@given(st.lists(st.text(max_size=80), max_size=5))
def test_whatever_the_names_are_they_pass_or_there_is_a_reason(medium: str, names: list[str]) -> None:
    said = "accepted"
    try:
        check_files(named(*names), medium, LARGE)
    except InvalidError as error:
        said = error.message
    else:
        assert all(part not in ("", ".", "..") for name in names for part in name.split("/"))
    assert re.search("^accepted$|; |: ", said)
