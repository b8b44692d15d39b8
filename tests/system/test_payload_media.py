"""The images of CDs and floppies, as other programs read them."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from ansible_collections.golden.libvirt.plugins.module_utils._core.errors import InvalidError
from ansible_collections.golden.libvirt.plugins.module_utils._core.payload.payload_files import (
    CDROM,
    FLOPPY,
    PayloadFile,
)
from ansible_collections.golden.libvirt.plugins.module_utils._media import library
from ansible_collections.golden.libvirt.plugins.module_utils._media.image import build_image, missing_library
from hypothesis import given, settings
from hypothesis import strategies as st

from support.linux_reader import read_by_linux

MEDIA = pytest.mark.parametrize("medium", [CDROM, FLOPPY])
EXAMPLES = settings(max_examples=100, deadline=None, database=None, derandomize=True)
ROOM = 2847 * 512
ENVIRONMENT = {**os.environ, "LC_ALL": "C.UTF-8", "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}
Tree = dict[str, bytes]

SIZES = [0, 1, 511, 512, 513, 2047, 2048, 2049, 16384]
NAMES = [
    "user-data",
    "README.TXT",
    ".hidden",
    "Ä ö.b.c",
    "каталог/файл.txt",
    "каталог/глубже/文件.txt",
    "文文件",
    "a+b=c,[d]",
]
EMOJI = ["😀", "папка 😀/👨‍👩‍👧.png"]
GOLDEN = {
    CDROM: "e277e8e39145923033c054f209241933754363ee734a1ef2a31a3d81b7a23c8c",
    FLOPPY: "92b8f9774c9e884de6dffa41bf130da23bd96277e4209fdba3febbc29951f097",
}
"""What the bytes have been since the first release. Where they change, each payload counts as changed once."""


def files_of(tree: Tree) -> list[PayloadFile]:
    """Return the files of a tree."""
    return [PayloadFile(name, content) for name, content in tree.items()]


def built(tree: Tree, medium: str, folder: Path, volume_id: str = "cidata") -> Path:
    """Build an image in a folder."""
    image = folder / "image"
    image.write_bytes(build_image(files_of(tree), medium, volume_id, 2 * ROOM))
    return image


def run(*command: str | Path) -> str:
    """Run a program that must succeed and return what it printed."""
    done = subprocess.run(command, check=False, capture_output=True, env=ENVIRONMENT)
    printed = done.stdout.decode("utf-8", "replace")
    assert done.returncode == 0, f"{command}: {printed}{done.stderr.decode('utf-8', 'replace')}"
    return printed


def tree_below(folder: Path) -> Tree:
    """Return the files below a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def by_7z(image: Path, folder: Path) -> Tree:
    """Read an image with 7z: of a CD the Joliet names."""
    run("7z", "x", "-y", f"-o{folder}", image)
    return tree_below(folder)


def by_xorriso(image: Path, folder: Path) -> Tree:
    """Read a CD with xorriso: the Rock Ridge names."""
    run("xorriso", "-osirrox", "on:auto_chmod_on", "-indev", image, "-extract", "/", folder)
    run("chmod", "-R", "u+rwX", folder)
    return tree_below(folder)


def by_mtools(image: Path, folder: Path) -> Tree:
    """Read a floppy with mtools, which knows the characters of the first Unicode plane."""
    folder.mkdir(exist_ok=True)
    run("mcopy", "-s", "-n", "-i", image, "::*", folder)
    return tree_below(folder)


def isoinfo_names(image: Path, *options: str) -> set[str]:
    """Return the paths of a CD as isoinfo lists them, folders too."""
    return {line[1:] for line in run("isoinfo", *options, "-f", "-i", image).splitlines()}


def with_folders(names: Sequence[str]) -> set[str]:
    """Return the names and the folders above them."""
    return {
        "/".join(parts[: depth + 1]) for parts in (name.split("/") for name in names) for depth in range(len(parts))
    }


def check_floppy(image: Path) -> str:
    """Have fsck.vfat look at a floppy and return the number of used clusters and of all."""
    return run("fsck.vfat", "-n", image).splitlines()[-1].split(", ")[-1]


def sample() -> Tree:
    """Return files of all the names and sizes that are special."""
    sized = {f"sizes/{size}": bytes(number % 251 for number in range(size)) for size in SIZES}
    return {**sized, **{name: name.encode() for name in NAMES}}


def test_a_cd_as_four_programs_read_it(tmp_path: Path) -> None:
    tree = {**sample(), **{name: name.encode() for name in EMOJI}}
    image = built(tree, CDROM, tmp_path)
    assert by_7z(image, tmp_path / "7z") == tree
    assert by_xorriso(image, tmp_path / "xorriso") == tree
    assert isoinfo_names(image, "-R") == with_folders(list(tree))
    described = run("blkid", "-p", "-o", "export", image).splitlines()
    assert {"TYPE=iso9660", "LABEL=cidata"} <= set(described)
    for name, content in tree.items():
        printed = subprocess.run(["isoinfo", "-R", "-x", f"/{name}", "-i", image], check=True, capture_output=True)
        assert printed.stdout == content, name


@pytest.mark.usefixtures("guest_v1")  # with it comes the kernel
def test_the_media_as_the_linux_kernel_reads_them(tmp_path: Path) -> None:
    tree = {**golden_tree(), "1/2/3/4/5/6/7/8": b"deep", "Щ" * 64: b"1", "文" * 64: b"2", "😀" * 32: b"3"}
    images = {medium: tmp_path / medium for medium in (CDROM, FLOPPY)}
    for medium, image in images.items():
        image.write_bytes(build_image(files_of(tree), medium, "cidata", 16384))
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in tree.items()}
    assert read_by_linux(images[CDROM], images[FLOPPY], tmp_path) == {
        "rock_ridge": digests, "joliet": digests, "vfat": digests,
    }  # fmt: skip


def test_the_joliet_names_of_a_cd_as_isoinfo_reads_them(tmp_path: Path) -> None:
    names = ["user-data", "каталог/глубже/Файл.txt", "Щ" * 64]
    image = built(dict.fromkeys(names, b"x"), CDROM, tmp_path)
    done = subprocess.run(["isoinfo", "-J", "-j", "koi8-r", "-f", "-i", image], check=True, capture_output=True)
    assert {line[1:] for line in done.stdout.decode("koi8-r").splitlines()} == with_folders(names)


def test_the_plain_names_of_a_cd_are_those_of_iso_9660(tmp_path: Path) -> None:
    names = ["user-data", "user-date", "Юг/Ö.tar.gz", "Да/1", "a/long.name", "long.name/.x", "A_B.C", "Ä_b.c"]
    image = built(dict.fromkeys(names, b"x"), CDROM, tmp_path)
    assert isoinfo_names(image) == {
        "USER_DAT.;1", "USER_D_1.;1", "_", "_/1.;1", "__1", "__1/O_TAR.GZ;1", "A", "A/LONG.NAM;1", "LONG_NAM",
        "LONG_NAM/X.;1", "A_B.C;1", "A_B_1.C;1",
    }  # fmt: skip


def test_a_floppy_as_three_programs_read_it(tmp_path: Path) -> None:
    image = built(sample(), FLOPPY, tmp_path)
    assert by_7z(image, tmp_path / "7z") == sample()
    assert by_mtools(image, tmp_path / "mtools") == sample()
    assert check_floppy(image).endswith("/2847 clusters")
    assert {"TYPE=vfat", "LABEL=CIDATA"} <= set(run("blkid", "-p", "-o", "export", image).splitlines())
    assert image.stat().st_size == 1440 * 1024


def test_emoji_on_a_floppy(tmp_path: Path) -> None:
    tree = {name: name.encode() for name in EMOJI}
    image = built(tree, FLOPPY, tmp_path)
    assert by_7z(image, tmp_path / "7z") == tree
    check_floppy(image)


@MEDIA
def test_the_longest_names(medium: str, tmp_path: Path) -> None:
    units = {CDROM: 64, FLOPPY: 255}[medium]
    names = [
        "x" * units,
        "y" * (units - 1) + "/" + "z" * (256 - units if medium == FLOPPY else 50),
        "Я" * 64,
        "文" * 64,
    ]
    names += ["😀" * 32, "1/2/3/4/5/6/7/8"]
    for length in (12, 13, 14, 25, 26, 27, 39, 40):
        names.append(f"{length}" * (length // 2) + "q" * (length % 2))
    tree = {name: name.encode() for name in names}
    image = built(tree, medium, tmp_path)
    assert by_7z(image, tmp_path / "7z") == tree
    if medium == FLOPPY:
        check_floppy(image)
    else:
        assert by_xorriso(image, tmp_path / "xorriso") == tree


def test_names_of_255_letters_that_take_more_bytes_than_linux_can_store(tmp_path: Path) -> None:
    image = built({"文" * 255: b"x"}, FLOPPY, tmp_path)
    assert f"Path = {'文' * 255}\n" in run("7z", "l", "-slt", image)
    check_floppy(image)


@pytest.mark.parametrize("name", ["full", "in/a/folder/full"])
def test_a_full_floppy(name: str, tmp_path: Path) -> None:
    content = hashlib.shake_256(b"full").digest(ROOM - 512 * name.count("/"))
    image = built({name: content}, FLOPPY, tmp_path)
    assert check_floppy(image) == "2847/2847 clusters"
    assert by_mtools(image, tmp_path / "mtools") == {name: content}
    with pytest.raises(InvalidError, match="take 2848 clusters"):
        build_image([PayloadFile(name, content + b"x")], FLOPPY, "PAYLOAD", 2 * ROOM)


def test_a_full_root_directory_of_a_floppy(tmp_path: Path) -> None:
    tree = {f"{number}": b"%d" % number for number in range(111)}
    image = built(tree, FLOPPY, tmp_path)
    check_floppy(image)
    assert by_mtools(image, tmp_path / "mtools") == tree
    with pytest.raises(InvalidError, match="take 225 directory entries"):
        build_image(files_of({**tree, "x": b""}), FLOPPY, "PAYLOAD", 16384)


@MEDIA
def test_folders_of_many_files(medium: str, tmp_path: Path) -> None:
    tree = {f"folder/a rather long name, number {number}.txt": b"%d" % number for number in range(400)}
    image = built(tree, medium, tmp_path)
    assert by_7z(image, tmp_path / "7z") == tree


@MEDIA
@pytest.mark.parametrize("volume_id", ["", "x" * 17, "a/b", "ü"])
def test_a_volume_id_that_the_medium_cannot_have(medium: str, volume_id: str) -> None:
    with pytest.raises(InvalidError, match="volume_id"):
        build_image(files_of({"a": b""}), medium, volume_id, 16384)


LETTERS = st.characters(exclude_categories=["Cs", "Cn", "Cc", "Zl", "Zp"], exclude_characters='"*/:;<>?\\|')
GOOD = st.text(LETTERS, min_size=1, max_size=20).filter(lambda text: text[-1] not in ". ") | st.sampled_from(
    ["a", "A", "b.txt", "B_1.TXT", "é", "e\u0301", "😀", "x" * 64, "con"]
)
DUBIOUS = st.text(max_size=8) | st.sampled_from(["..", ".", "", "文" * 65, "x" * 256, "a.", "b ", "c\\d", "e;", "f|"])
NAMES_OF_ALL_KINDS = st.lists(GOOD, min_size=1, max_size=4) | st.lists(GOOD | DUBIOUS, min_size=1, max_size=9)
TREES = st.dictionaries(NAMES_OF_ALL_KINDS.map("/".join), st.binary(max_size=3000), max_size=4)


@MEDIA
@EXAMPLES
@given(tree=TREES)
def test_what_is_accepted_reads_back_the_same_and_what_is_not_has_a_reason(medium: str, tree: Tree) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            image = built(tree, medium, folder)
        except InvalidError as error:
            refused = error.message
        else:
            refused = ""
        if refused:
            assert re.search("; |: ", refused)
            return
        assert by_7z(image, folder / "7z") == tree
        if medium == CDROM:
            assert by_xorriso(image, folder / "xorriso") == tree
        else:
            check_floppy(image)


SAFE = st.text("aAbBéÉñßжЖ文 +_1~.'", min_size=1, max_size=30).map(lambda text: f"{text}z")


@MEDIA
@EXAMPLES
@given(tree=st.dictionaries(st.lists(SAFE, min_size=1, max_size=3).map("/".join), st.binary(max_size=3000), min_size=1))
def test_names_that_look_alike_read_back_the_same(medium: str, tree: Tree) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            image = built(tree, medium, folder)
        except InvalidError as error:
            refused = error.message
        else:
            refused = ""
        if refused:
            assert re.search("differ only by case|also the folder|where a path can", refused)
            return
        if medium == CDROM:
            assert by_7z(image, folder / "7z") == tree
            assert isoinfo_names(image, "-R") == with_folders(list(tree))
        else:
            assert by_mtools(image, folder / "mtools") == tree
            check_floppy(image)


def golden_tree() -> Tree:
    """Return the files that the known digests are of."""
    return {**sample(), **{name: name.encode() for name in EMOJI}}


@MEDIA
def test_the_bytes_are_what_they_were_in_every_release(medium: str) -> None:
    image = build_image(files_of(golden_tree()), medium, "cidata", 16384)
    assert hashlib.sha256(image).hexdigest() == GOLDEN[medium]


@MEDIA
def test_the_order_of_files_does_not_count_and_everything_else_does(medium: str) -> None:
    tree = golden_tree()
    image = build_image(files_of(tree), medium, "cidata", 16384)
    assert build_image(files_of(tree)[::-1], medium, "cidata", 16384) == image
    changed = [
        build_image(files_of({**tree, "user-data": b"user-datb"}), medium, "cidata", 16384),
        build_image(files_of({**tree, "more": b""}), medium, "cidata", 16384),
        build_image(files_of(tree), medium, "cidatb", 16384),
    ]
    assert len({image, *changed}) == 4


PROGRAM = """
import hashlib, json, sys
from ansible_collections.golden.libvirt.plugins.module_utils._core.payload.payload_files import PayloadFile
from ansible_collections.golden.libvirt.plugins.module_utils._media.image import build_image
files = [PayloadFile(name, bytes.fromhex(content)) for name, content in json.load(sys.stdin).items()]
for medium in ("cdrom", "floppy"):
    print(hashlib.sha256(build_image(files, medium, "cidata", 16384)).hexdigest())
"""


def pythons() -> list[str]:
    """Return the Pythons of this machine, this one first."""
    script = "source scripts/lib.sh; for version in 3.9 3.10 3.11 3.12 3.13; do find_python $version || :; done"
    root = Path(__file__).parents[2]
    found = subprocess.run(["bash", "-c", script], cwd=root, check=True, capture_output=True, text=True)
    return [sys.executable, *found.stdout.split()]


def test_the_bytes_are_the_same_on_every_python_at_every_time(tmp_path: Path) -> None:
    repository = Path(__file__).parents[2]
    (tmp_path / "ansible_collections" / "golden").mkdir(parents=True)
    (tmp_path / "ansible_collections" / "golden" / "libvirt").symlink_to(repository)
    for module in (library.pycdlib, library.pyfatfs_fat):
        package = Path(module.__file__).parent
        (tmp_path / package.name).symlink_to(package)
    given_files = json.dumps({name: content.hex() for name, content in reversed(golden_tree().items())})
    clocks = [("UTC", "0"), ("Asia/Kolkata", "1"), ("America/St_Johns", "2"), ("Pacific/Kiritimati", "random")]
    for number, python in enumerate([*pythons(), sys.executable, sys.executable, sys.executable]):
        zone, seed = clocks[number % len(clocks)]
        environment = {
            "PYTHONPATH": str(tmp_path), "TZ": zone, "PYTHONHASHSEED": seed, "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONIOENCODING": "utf-8", "SOURCE_DATE_EPOCH": str(number * 10**8),
        }  # fmt: skip
        done = subprocess.run(
            [python, "-W", "error", "-c", PROGRAM],
            check=True, capture_output=True, input=given_files.encode(), env=environment,
        )  # fmt: skip
        assert done.stdout.decode().split() == [GOLDEN[CDROM], GOLDEN[FLOPPY]], (python, zone, seed)


def test_the_libraries_are_there() -> None:
    assert (missing_library(CDROM), missing_library(FLOPPY)) == (None, None)


@MEDIA
def test_a_missing_library_is_told_by_name_when_it_is_needed(medium: str, tmp_path: Path) -> None:
    name = {CDROM: "pycdlib", FLOPPY: "pyfatfs"}[medium]
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("raise ImportError('not here')\n")
    program = (
        "from ansible_collections.golden.libvirt.plugins.module_utils._media.image import missing_library\n"
        "print([medium for medium in ('cdrom', 'floppy') if missing_library(medium) is not None])\n"
        f"library, reason = missing_library({medium!r})\nassert 'not here' in reason\nprint(library)"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, env=environment)
    assert done.stdout.split("\n")[:2] == [f"['{medium}']", name]
