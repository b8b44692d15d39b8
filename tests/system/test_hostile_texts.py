"""Texts of users on a real libvirtd: stored and read back as they are, or refused with a message."""

from __future__ import annotations

import json
from typing import Any

import pytest

from support.fixtures import Site
from support.modules import ModuleFailed, run_module
from support.virsh import definition, metadata

TEXTS = [
    "<&>\"' &amp; &#65; ]]> <![CDATA[x]]> <!-- x --> <?x?>",
    " blanks around ",
    "   ",
    "lines\n\nand\ttabs\n",
    "größer 名前 \U0001f600 e\u0301 \u200d \u00a0 \u202eback",
    "{{ 7 * 7 }} {% raw %} ${HOME} $(id) `id` %s \\n \\",
    "x" * 60_000,
]
REFUSED = ["\0", "a\x1b[2Jb", "a\rb", "a\r\nb", "\ufffe", "\x7f\x08", "x" * 70_000]
USERS = ["<&>\"'", "Änne O'Neil \U0001f600", "{{ 7 * 7 }}"]


def test_the_description_of_a_vm(site: Site, template: str) -> None:
    vm = site.vm("a")
    run_module("vm", name=vm, template=template, storage_pools=[site.storage_pool], description=TEXTS[0])
    for text in [*TEXTS, ""]:
        changed = run_module("vm", name=vm, description=text)
        assert changed["vm"]["description"] == text
        assert run_module("vm", name=vm, description=text)["changed"] is False
        assert definition(vm).findtext("description", "") == text
        assert run_module("vm_info", name=vm)["vms"][0]["description"] == text
    before = definition(vm)
    for text in REFUSED:
        with pytest.raises(ModuleFailed, match=f"description of VM '{vm}'") as failure:
            run_module("vm", name=vm, description=text, _ansible_no_log=True)
        assert failure.value.result["msg"].isprintable()
    with pytest.raises(ModuleFailed, match="description of VM"):
        run_module("vm", name=site.vm("b"), template=template, storage_pools=[site.storage_pool], description="\x01")
    assert definition(vm).findtext("description", "") == before.findtext("description", "")
    assert site.vms == [vm]


def test_the_labels_of_a_version(site: Site, template: str) -> None:
    where = {"template": template, "storage_pool": site.storage_pool}
    for text in ["", *TEXTS[:-1], "x" * 5000, "a\x1b[2J\r\nb"]:
        given: dict[str, Any] = {"version_name": f"r {text}", "description": text, "labels": {text: text}}
        changed = run_module("template_version", version="1", **where, **given)["template_version"]
        assert {name: changed[name] for name in given} == given
        assert run_module("template_version", version=f"r {text}", **where, **given)["changed"] is False
        listed = run_module("template_version_info", all_versions=True, **where)["template_versions"][0]
        assert {name: listed[name] for name in given} == given
        stored = json.loads((site.folder / "web.v1.json").read_text())
        assert {name: stored[name] for name in given} == given
    with pytest.raises(ModuleFailed, match="manifest of web version 1"):
        run_module("template_version", version="1", **where, description="x" * 70_000)
    with pytest.raises(ModuleFailed, match="manifest of web version 1"):
        run_module("template_version", version="1", **where, labels={"half": "\ud800"})
    assert json.loads((site.folder / "web.v1.json").read_text()) == stored


def test_the_users_of_leases(site: Site, template: str) -> None:
    pool = site.vm("desk")
    run_module("vm_pool", vm_pool=pool, template=template, count=1, storage_pools=[site.storage_pool])
    for user in USERS:
        assert run_module("vm_lease", vm_pool=pool, user=user)["lease"]["user"] == user
        lease = metadata(f"{pool}-1").find("{*}lease")
        assert lease is not None
        assert lease.attrib["user"] == user
        assert run_module("vm_lease", vm_pool=pool, user=user)["changed"] is False
        assert run_module("vm_pool_info", vm_pool=pool)["vm_pools"][0]["taken"] == {f"{pool}-1": user}
        shutdown = {"mode": "force"}
        assert run_module("vm_lease", vm_pool=pool, user=user, state="returned", shutdown=shutdown)["changed"]
    for user in ["a\nb", "a\x1b[2J", "\u202eback", " ", "x" * 257]:
        with pytest.raises(ModuleFailed, match="is no valid name"):
            run_module("vm_lease", vm_pool=pool, user=user)
    assert metadata(f"{pool}-1").find("{*}lease") is None
