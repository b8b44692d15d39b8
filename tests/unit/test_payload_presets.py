"""The payloads for cloud-init and Windows Setup."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from ansible_collections.golden.libvirt.plugins.module_utils._core.errors import InvalidError
from ansible_collections.golden.libvirt.plugins.module_utils._core.payload.payload_presets import cloud_init, sysprep
from hypothesis import given
from hypothesis import strategies as st

yaml = pytest.importorskip("yaml", reason="PyYAML, by which cloud-init reads its files, is not installed")

UUID = "0d1ab4b5-6ff6-4f4d-8a0e-3d1e3f5b2c11"
USER: dict[str, Any] = {"users": [{"name": "anna"}], "ssh_pwauth": False}
ANSWERS = '<?xml version="1.0" encoding="utf-8"?>\n<unattend>\n  <Value>geheim</Value>\n</unattend>\n'


def seed(name: str = "web-1", uuid: str = UUID, **data: Any) -> dict[str, str]:
    """Return the seed for a VM as texts by name."""
    files, volume_id = cloud_init(name, uuid, **data)
    assert volume_id == "cidata"
    return {file.name: file.content.decode("utf-8") for file in files}


def meta(name: str = "web-1", uuid: str = UUID, **data: Any) -> dict[str, Any]:
    """Return the meta-data of a seed as cloud-init reads it."""
    found: dict[str, Any] = yaml.safe_load(seed(name, uuid, **data)["meta-data"])
    return found


def test_a_seed_of_nothing_still_names_the_machine() -> None:
    files = seed()
    assert set(files) == {"meta-data", "user-data"}
    assert files["user-data"] == ""
    assert meta()["local-hostname"] == "web-1"
    assert re.fullmatch(UUID + "-[0-9a-f]{8}", meta()["instance-id"])


def test_text_is_taken_as_it_is() -> None:
    files = seed(user_data="#!/bin/sh\necho é\n", network_config="version: 2\n")
    assert files["user-data"] == "#!/bin/sh\necho é\n"
    assert files["network-config"] == "version: 2\n"


def test_a_dictionary_becomes_a_cloud_config() -> None:
    files = seed(user_data=USER, network_config={"version": 2, "ethernets": {}})
    assert files["user-data"].startswith("#cloud-config\n")
    assert yaml.safe_load(files["user-data"]) == USER
    assert yaml.safe_load(files["network-config"]) == {"version": 2, "ethernets": {}}


def test_a_list_becomes_an_archive_of_parts() -> None:
    parts = [{"type": "text/cloud-config", "content": "a: b"}, "#!/bin/sh\n"]
    text = seed(user_data=parts)["user-data"]
    assert text.startswith("#cloud-config-archive\n")
    assert yaml.safe_load(text) == parts


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.dictionaries(st.text("abc\x85\u2028😀: #"), VALUES, max_size=4))
def test_whatever_a_dictionary_holds_yaml_reads_the_same(data: dict[str, Any]) -> None:
    assert yaml.safe_load(seed(user_data=data)["user-data"]) == data


@given(st.permutations(["b", "a", "c"]))
def test_the_order_of_keys_does_not_count(keys: list[str]) -> None:
    assert seed(user_data={key: {"x": 1, "a": 2} for key in keys}) == seed(
        user_data={key: {"a": 2, "x": 1} for key in "abc"}
    )


def test_the_instance_id_changes_with_what_the_user_writes_and_with_the_machine_only() -> None:
    given_data = dict(user_data=USER, meta_data={"k": "v"}, network_config="version: 2")
    instance = meta(**given_data)["instance-id"]
    assert meta(**given_data)["instance-id"] == instance
    assert meta("renamed", UUID.upper(), **given_data)["instance-id"] == instance
    others = [
        meta(uuid=UUID.replace("0d", "1d"), **given_data),
        meta(**{**given_data, "user_data": {**USER, "x": 1}}),
        meta(**{**given_data, "meta_data": {"k": "w"}}),
        meta(**{**given_data, "network_config": "version: 1"}),
        meta(**{**given_data, "network_config": None}),
        meta(user_data=USER),
    ]
    assert len({instance, *(other["instance-id"] for other in others)}) == 7


def test_what_is_moved_from_one_file_to_another_is_another_instance() -> None:
    assert (
        meta(user_data="ab", network_config="c")["instance-id"]
        != meta(user_data="a", network_config="bc")["instance-id"]
    )


@pytest.mark.parametrize(
    "meta_data",
    [
        {"instance-id": "i-1", "local-hostname": "own", "k": [1]},
        '{"instance-id": "i-1", "local-hostname": "own", "k": [1]}',
        "instance-id: i-1\nlocal-hostname: own\nk: [1]",
        '# mine\n---\nk: [1]\n"instance-id": i-1\nlocal-hostname:   own\n',
    ],
)
def test_what_the_user_says_of_the_machine_counts(meta_data: Any) -> None:
    assert meta(meta_data=meta_data) == {"instance-id": "i-1", "local-hostname": "own", "k": [1]}


@pytest.mark.parametrize("meta_data", ["k: |\n  text\n  instance-id: no", "# only a remark\n", "", "---\n'k': v", "{}"])
def test_what_the_user_does_not_say_is_added(meta_data: str) -> None:
    found = meta(meta_data=meta_data)
    assert found["local-hostname"] == "web-1"
    assert found["instance-id"].startswith(UUID)
    assert set(found) == {"local-hostname", "instance-id", *(yaml.safe_load(meta_data) or {})}


@pytest.mark.parametrize("meta_data", ["geheim", "- a", "{a: b}", "[1]", '"x', "  k: v", "{"])
def test_meta_data_that_is_no_mapping_is_refused_without_showing_it(meta_data: str) -> None:
    with pytest.raises(InvalidError, match=r"^meta_data is no YAML of the form 'key: value'.*as a dictionary$"):
        seed(meta_data=meta_data)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (dict(user_data=5), "user_data is neither text, nor a dictionary, nor a list"),
        (dict(meta_data=[1]), "meta_data is neither text nor a dictionary"),
        (dict(network_config=[1]), "network_config is neither text nor a dictionary"),
        (dict(user_data={"a": float("inf")}), "user_data: a number is infinite"),
        (dict(user_data="\udcff"), "user_data: the content is no valid UTF-8 text"),
        (dict(network_config={"a": "\udcff"}), "network_config: the content is no valid UTF-8 text"),
    ],
)
def test_what_is_no_seed(data: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidError, match=rf"^{said}"):
        seed(**data)


def test_answers_for_windows_have_its_line_ends_once() -> None:
    files, volume_id = sysprep("a\nb\r\nc\n\n", "sysprep.inf")
    assert (files[0].name, files[0].content, volume_id) == ("sysprep.inf", b"a\r\nb\r\nc\r\n\r\n", "PAYLOAD")
    again, _ = sysprep(files[0].content.decode(), "sysprep.inf")
    assert again == files


@pytest.mark.parametrize("name", ["unattend.xml", "Autounattend.xml", "autounattend.XML", "SYSPREP.INF"])
def test_answers_may_be_called(name: str) -> None:
    assert sysprep(ANSWERS, name)[0][0].name == name


@pytest.mark.parametrize("name", ["answers.xml", "../unattend.xml", "unattend.xml.bak", ""])
def test_answers_may_not_be_called(name: str) -> None:
    with pytest.raises(InvalidError, match=r"is none that Windows looks for; use unattend\.xml, Auto"):
        sysprep(ANSWERS, name)


def test_answers_are_unattend_xml_unless_named() -> None:
    assert sysprep(ANSWERS)[0][0].name == "unattend.xml"
    assert sysprep("\ufeff" + ANSWERS)[0][0].content.startswith(b"\xef\xbb\xbf<?xml")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (ANSWERS.replace("</Value>", "</Val>"), "is no well-formed XML: see line 3, column 18"),
        (ANSWERS.replace("geheim", "&geheim;"), "is no well-formed XML: see line 3"),
        ("geheim", "is no well-formed XML: see line 1"),
        ("", "is no well-formed XML"),
        ("\n" + ANSWERS, "is no well-formed XML: see line 2"),
        (ANSWERS.replace("utf-8", "utf-16"), "another encoding than UTF-8"),
        (ANSWERS.replace("utf-8", "iso-8859-1"), "another encoding than UTF-8"),
        ("\ufeff" + ANSWERS.replace('"utf-8"', "'windows-1252'"), "another encoding than UTF-8"),
        (ANSWERS + "\udcff", "no valid UTF-8 text"),
    ],
)
def test_answers_that_windows_could_not_read_are_refused_without_showing_them(content: str, said: str) -> None:
    with pytest.raises(InvalidError, match=r"^file 'unattend\.xml'") as caught:
        sysprep(content)
    assert said in caught.value.message
    assert "geheim" not in json.dumps(caught.value.message)
    assert caught.value.__context__ is None or caught.value.__suppress_context__
