"""The options of a payload, and what they come to."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.golden.libvirt.plugins.module_utils._core.errors import InvalidError
from ansible_collections.golden.libvirt.plugins.module_utils._core.payload.payload import Content
from ansible_collections.golden.libvirt.plugins.module_utils._payload_options import (
    CONTENTS,
    member_payload_of,
    payload_of,
    payload_options,
)

UUID = "0e656802-2e74-4cb7-94cf-418a24b6b74b"


def options(**given: Any) -> dict[str, Any]:
    """Return the options with their defaults, as a module has them."""
    return {name: spec.get("default") for name, spec in payload_options(availability=True).items()} | given


def files(*contents: str, **more: str) -> list[dict[str, str]]:
    """Return files with these contents, named by their places."""
    return [{"name": f"f{place}", "content": text, "encoding": "utf-8", **more} for place, text in enumerate(contents)]


def built(**given: Any) -> Content:
    """Return the content for the VM ``web-1``."""
    return payload_of(options(**given)).build("web-1", UUID)


def texts(content: Content) -> dict[str, str]:
    """Return the contents of the files."""
    return {file.name: file.content.decode() for file in content.files}


def test_files_on_each_medium() -> None:
    assert [built(files=files("a"), type=medium).type for medium in (None, "cdrom", "floppy")] == [
        "cdrom",
        "cdrom",
        "floppy",
    ]
    assert built(files=files("a")).image == built(files=files("a")).image


def test_a_seed_for_cloud_init() -> None:
    seed = built(cloud_init={"user_data": "#!/bin/sh\n", "meta_data": None, "network_config": None})
    assert texts(seed)["user-data"] == "#!/bin/sh\n"
    assert b"cidata" in seed.image
    assert "web-1" in texts(seed)["meta-data"]


def test_the_volume_id() -> None:
    assert b"OTHER" in built(files=files("a"), volume_id="OTHER").image


@pytest.mark.parametrize("given", [{}, {"files": files("a"), "ignition": {}}])
def test_exactly_one_content(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidError, match="needs exactly one of files, cloud_init, sysprep, ignition"):
        built(**given)


@pytest.mark.parametrize("option", ["type", "volume_id"])
def test_ignition_is_on_no_medium(option: str) -> None:
    with pytest.raises(InvalidError, match=f"{option}: a payload for Ignition is on no medium"):
        built(ignition={}, **{option: "cdrom"})


@pytest.mark.parametrize("user_data", ["#!/bin/sh\necho Grüße, 世界\n", "", {"b": 1, "a": "\u2028"}])
def test_a_seed_over_the_network_holds_the_same_files(user_data: object) -> None:
    given = {"cloud_init": {"user_data": user_data, "meta_data": None, "network_config": {"version": 2}}}
    seed = built(**given, type="network")
    assert (seed.type, json.loads(seed.image)) == ("network", texts(built(**given)))
    assert seed.image == built(**given, type="network").image


@pytest.mark.parametrize(
    "given", [{"files": files("a")}, {"sysprep": {"content": "<a/>", "filename": "unattend.xml"}}, {"ignition": {}}]
)
def test_over_the_network_there_is_only_cloud_init(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidError, match=r"for cloud-init; give cloud_init, or put|a payload for Ignition"):
        built(**given, type="network")


def test_over_the_network_there_is_no_medium() -> None:
    with pytest.raises(InvalidError, match="volume_id: a payload over the network is on no medium"):
        built(cloud_init={}, type="network", volume_id="cidata")


def test_the_size_of_a_file_is_limited() -> None:
    with pytest.raises(InvalidError, match="more than max_file_size"):
        built(files=files("x" * 20000))
    assert built(files=files("x" * 20000), max_file_size="20KiB").files
    with pytest.raises(InvalidError, match="'user-data' has 20000 bytes, more than max_file_size"):
        built(cloud_init={"user_data": "x" * 20000}, type="network")


def test_contents_are_secret() -> None:
    secret = {name for name, spec in payload_options().items() if spec.get("no_log")}
    assert secret == set(CONTENTS)


def test_members_have_their_own_values() -> None:
    given = options(
        files=[*files("@vm@ of @vm_pool@, @number@, @other@, a@vm@b"), *files("QHZtQA==", encoding="base64")]
    )
    given["files"][1]["name"] = "raw-@number@"
    content = member_payload_of(given, "desk").build("desk-12", UUID)
    assert texts(content) == {"f0": "desk-12 of desk, 12, @other@, adesk-12b", "raw-12": "@vm@"}
    given = options(cloud_init={"user_data": {"a": ["@vm@", 1], "b": {"c": "@number@"}}})
    seed = member_payload_of(given, "desk").build("desk-3", UUID)
    assert '"desk-3",\n  1' in texts(seed)["user-data"].replace("    ", "  ")
    assert '"c": "3"' in texts(seed)["user-data"]


def test_what_is_wrong_for_all_members_is_refused_at_once() -> None:
    with pytest.raises(InvalidError, match="ignition is no valid JSON"):
        member_payload_of(options(ignition="{"), "desk")
