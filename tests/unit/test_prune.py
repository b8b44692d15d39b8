"""Deleting the old versions of a template: which go, which stay and why, and what it frees."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.golden.libvirt.plugins.module_utils._core.errors import InvalidError, RefusedError
from ansible_collections.golden.libvirt.plugins.module_utils._core.libvirt_xml.volume_xml import new_volume
from ansible_collections.golden.libvirt.plugins.module_utils._core.template.catalog import read_template

from support.fake import FakeHypervisor
from unit.world import (
    GIB,
    changes,
    do,
    ensuring,
    plan,
    pruning,
    publishing,
    qcow2,
    refused,
    relabelling,
    restoring,
    settling,
    with_template,
    with_vm,
)


def reasons(hv: FakeHypervisor, **options: Any) -> dict[int, str]:
    """Return why each version stays; of one that goes, nothing."""
    told = plan(hv, pruning(**options)).facts({})
    return {
        **{gone["version"]: "" for gone in told["deleted"]},
        **{kept["version"]: kept["reason"] for kept in told["kept"]},
    }


def test_the_old_versions_go() -> None:
    hv = with_template(5)
    told = plan(hv, pruning(keep=2)).facts({})
    image = hv.volume("default", "web.v1.qcow2")
    assert image is not None
    web = {"template": "web", "storage_pool": "default"}
    assert told == {
        "deleted": [{**web, "version": number, "version_name": f"r{number}"} for number in (1, 2, 3)],
        "kept": [
            {**web, "version": 4, "version_name": "r4", "reason": "it is one of the last 2 active versions"},
            {**web, "version": 5, "version_name": "r5", "reason": "it is the latest"},
        ],
        "freed": 3 * image.allocation,
    }
    assert do(hv, pruning(keep=2)) == {"template": "web", "storage_pool": "default", "versions": [4, 5]}
    assert [name for name in hv.names() if name.endswith(".qcow2")] == ["web.v4.qcow2", "web.v5.qcow2"]
    assert [version.version for version in read_template(hv, "default", "web").ready] == [4, 5]
    assert not changes(hv, pruning(keep=2))
    assert reasons(hv, keep=1) == {4: "", 5: "it is the latest"}


def test_what_is_newer_than_the_last_active_ones_stays() -> None:
    hv = with_template(6)
    do(hv, relabelling("6", lifecycle="candidate"))
    do(hv, relabelling("4", lifecycle="revoked"))
    do(hv, relabelling("1", lifecycle="revoked"))
    assert reasons(hv, keep=2) == {
        1: "",
        2: "",
        3: "it is one of the last 2 active versions",
        4: "it is newer than version 3",
        5: "it is the latest",
        6: "it is newer than version 3",
    }
    assert reasons(hv, keep=3)[2] == "it is one of the last 3 active versions"
    assert reasons(hv, keep=3)[1] == ""


@pytest.mark.parametrize(("lifecycle", "keep"), [("candidate", 1), ("revoked", 1), ("active", 3)])
def test_nothing_goes_where_there_are_not_so_many_active_ones(lifecycle: str, keep: int) -> None:
    hv = with_template(2)
    for number in ("1", "2"):
        do(hv, relabelling(number, lifecycle=lifecycle))
    assert not changes(hv, pruning(keep=keep))
    assert reasons(hv, keep=keep)[1] == f"there are no {keep} active versions"


def test_a_claim_stays() -> None:
    hv = with_template(3)
    hv.create_volume("default", new_volume("web.v4.json", 65536, "raw"))
    assert reasons(hv, keep=1)[4] == "it is being published, or its publisher died"
    assert do(hv, pruning(keep=1))["versions"] == [3, 4]


def test_what_is_used_stays() -> None:
    hv = with_vm(versions=4)
    do(hv, ensuring("web-2", template="web", template_version="2"))
    do(hv, restoring("web-2", template_version="4", keep_previous=True))
    assert reasons(hv, keep=1) == {
        1: "it is in use by VM 'web-1'",
        2: "it is in use by VM 'web-2'",
        3: "",
        4: "it is the latest",
    }
    do(hv, pruning(keep=1))
    do(hv, settling("web-2"))
    assert do(hv, pruning(keep=1))["versions"] == [1, 4]


def test_the_dry_run_after_a_dry_run_tells_the_truth_and_deletes_nothing_that_is_used() -> None:
    hv = with_vm(versions=3)
    do(hv, restoring(template_version="3", keep_previous=True))
    assert reasons(hv, keep=1)[1] == "it is in use by VM 'web-1'"
    assert reasons(hv, keep=1, settled=("web-1",))[1] == ""
    before = hv.state()
    with pytest.raises(RefusedError, match="version 1 of template 'web' is in use by VM 'web-1'"):
        plan(hv, pruning(keep=1, settled=("web-1",))).apply(lambda: 0.0)
    assert hv.state() == before


def test_an_image_that_versions_share_goes_with_the_last_of_them() -> None:
    hv = with_template(1)
    do(hv, publishing(version="1", labels={"description": "the same image"}))
    for number in (3, 4):
        hv.files[f"/images/{number}"] = qcow2(f"{number}")
        do(hv, publishing(path=f"/images/{number}"))
    assert plan(hv, pruning(keep=3)).facts({})["freed"] == 0
    do(hv, pruning(keep=3))
    assert "web.v1.qcow2" in hv.names()
    assert plan(hv, pruning(keep=1)).facts({})["freed"] > 0
    do(hv, pruning(keep=1))
    assert "web.v1.qcow2" not in hv.names()


def test_an_image_that_only_an_overlay_uses_stays() -> None:
    hv = with_template(2)
    image = hv.volume("default", "web.v1.qcow2")
    hv.create_volume("default", new_volume("copy.qcow2", 2 * GIB, "qcow2", image))
    assert reasons(hv, keep=1)[1] == "it is in use by volume 'copy.qcow2' in storage pool 'default'"


def test_a_user_who_comes_meanwhile_keeps_all() -> None:
    hv = with_template(3)
    planned = plan(hv, pruning(keep=1))
    hv.meanwhile("write_volume", lambda: do(hv, ensuring("web-1", template="web", template_version="2")))
    with pytest.raises(RefusedError, match="version 2 of template 'web' is in use by VM 'web-1'") as caught:
        planned.apply(lambda: 0.0)
    assert caught.value.facts["rolled_back"] is True
    assert [version.version for version in read_template(hv, "default", "web").ready] == [1, 2, 3]


def test_an_unknown_template_and_a_keep_that_makes_no_sense() -> None:
    hv = with_template(1)
    assert do(hv, pruning(template="none")) == {"template": "none", "storage_pool": "default", "versions": []}
    refused(hv, pruning(keep=0), "keep: 0 is less than 1; the latest version is always kept", InvalidError)
