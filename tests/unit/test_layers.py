"""The layers of the code: imports point downwards only, and each thing that is allowed once is there once."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PLUGINS = Path(__file__).resolve().parents[2] / "plugins"
CORE_STANDARD = {
    "__future__", "base64", "collections", "contextlib", "dataclasses", "datetime", "enum", "fractions", "functools",
    "hashlib", "ipaddress", "itertools", "json", "math", "re", "statistics", "string", "struct", "textwrap", "typing",
    "unicodedata", "uuid",
    "xml.etree.ElementTree",
}  # fmt: skip
"""What the core may use of the standard library: nothing that reads a file, a clock, a network or chance."""
BELOW = {
    "_core": {"_core"},
    "_hypervisor": {"_hypervisor", "_core"},
    "_media": {"_media", "_core"},
    "_options": {"_core"},
    "_payload_options": {"_core", "_media"},
    "_runner": {"_hypervisor", "_core"},
    "modules": {"_core", "_media", "_options", "_payload_options", "_runner"},
    "plugin_utils": {"_runner", "plugin_utils"},
    "action": {"modules", "plugin_utils"},
    "inventory": {"_core", "_hypervisor"},
    "callback": {"_core", "plugin_utils"},
    "filter": {"_core"},
    "doc_fragments": set(),
}
"""What of the collection each layer may import."""
CONTROLLER = ("action", "plugin_utils", "inventory", "callback", "filter")
"""Plugins that run in Ansible itself: they may use its helpers, and never AnsibleModule."""


def layer(path: Path) -> str:
    """Return the layer of a file of plugins/."""
    parts = path.with_suffix("").parts
    return parts[1] if parts[0] == "module_utils" else parts[0]


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield level and name of each imported module; of ``from . import x`` the name is x."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.module:
                yield node.level, node.module
            else:
                yield from ((node.level, alias.name) for alias in node.names)


def own_layer(path: Path, level: int, name: str) -> str | None:
    """Return the layer of the collection that an import leads to, or None for one from outside."""
    if level == 0:
        if not name.startswith("ansible_collections.golden.libvirt."):
            return None
        parts = name.split(".")[4:]
    else:
        parts = [*path.parts[: len(path.parts) - level], *name.split(".")]
    return parts[1] if parts[0] == "module_utils" else parts[0]


def violations(path: Path, source: str) -> list[str]:
    """Return what a file of plugins/, by its path there, does against the layers."""
    tree = ast.parse(source)
    here = layer(path)
    found = [*_import_violations(path, here, tree), *_handler_violations(tree)]
    if here == "_core":
        found += [
            f"_core asks the clock: {name}" for name in sorted({"now", "today", "utcnow"} & _datetime_calls(tree))
        ]
    if here == "modules":
        found += [f"the class {node.name}" for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    if "AnsibleModule" in _code_words(tree) and here != "_runner":
        found.append("AnsibleModule outside of the runner")
    if "check_mode" in _code_words(tree) and here != "_runner":
        found.append("check_mode outside of the runner")
    return found


def _datetime_calls(tree: ast.AST) -> set[str]:
    """Return what is called of the class datetime: to reckon with times is pure, to ask for them is not."""
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("datetime", "datetime.datetime", "date")
    }


def _import_violations(path: Path, here: str, tree: ast.AST) -> Iterator[str]:
    for level, name in imports(tree):
        own = own_layer(path, level, name)
        if own is not None:
            if own not in BELOW[here]:
                yield f"{here} imports {own}"
        elif here == "_core":
            if name not in CORE_STANDARD and name.partition(".")[0] not in CORE_STANDARD:
                yield f"_core imports {name}"
        elif here not in _allowed_outside(name):
            yield f"{here} imports {name}"


def _allowed_outside(name: str) -> set[str]:
    """Return the layers that may import this from outside of the collection; for the core see above."""
    if name == "__future__":
        return set(BELOW)
    if name.partition(".")[0] in ("libvirt", "libvirt_qemu", "libvirtaio"):
        return {"_hypervisor"}
    if name.partition(".")[0] in ("pycdlib", "pyfatfs"):
        return {"_media"}
    if name.startswith("ansible.module_utils.basic"):
        return {"_runner", *CONTROLLER}
    return set(BELOW) - {"modules"}


def _handler_violations(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            for kind in caught:
                if kind is None:
                    yield f"a bare except in line {node.lineno}"
                elif isinstance(kind, ast.Name) and kind.id == "Exception":
                    yield f"except Exception in line {node.lineno}"


def _code_words(tree: ast.AST) -> set[str]:
    """Return the names and attributes of the code; what documentation says does not count."""
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    names |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    return names | {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}


FILES = sorted(path.relative_to(PLUGINS) for path in PLUGINS.rglob("*.py") if path.read_text())


@pytest.mark.parametrize("path", FILES, ids=str)
def test_a_file_keeps_to_its_layer(path: Path) -> None:
    assert violations(path, (PLUGINS / path).read_text()) == []


def test_check_mode_is_looked_at_in_exactly_one_file() -> None:
    found = [path for path in FILES if "check_mode" in _code_words(ast.parse((PLUGINS / path).read_text()))]
    assert found == [Path("module_utils/_runner.py")]


def test_each_module_has_its_action_plugin() -> None:
    modules, actions = ({path.name for path in FILES if layer(path) == kind} for kind in ("modules", "action"))
    assert modules == actions


def test_no_unit_test_loads_what_runs_in_ansible_itself() -> None:
    """With that loaded, ansible-core takes the whole process for its own, and modules in it give other results."""
    apart = {"action", "inventory", "callback", "filter"}
    for path in Path(__file__).parent.glob("*.py"):
        for level, name in imports(ast.parse(path.read_text())):
            loaded = own_layer(path, level, name) if name.startswith("ansible_collections.") else None
            assert loaded not in apart, path
            assert not name.startswith("ansible.") or name.startswith("ansible.module_utils"), path


def test_there_is_something_to_check() -> None:
    assert {layer(path) for path in FILES} >= {"_core", "_hypervisor", "_options", "_runner", "modules"}


@pytest.mark.parametrize(
    ("path", "source", "said"),
    [
        ("module_utils/_core/x.py", "import os", "_core imports os"),
        ("module_utils/_core/x.py", "import os.path", "_core imports os.path"),
        ("module_utils/_core/x.py", "from pathlib import Path", "_core imports pathlib"),
        ("module_utils/_core/x.py", "import time", "_core imports time"),
        ("module_utils/_core/x.py", "from random import choice", "_core imports random"),
        ("module_utils/_core/x.py", "import xml.dom.minidom", "_core imports xml.dom.minidom"),
        ("module_utils/_core/x.py", "import libvirt", "_core imports libvirt"),
        ("module_utils/_core/x.py", "import datetime\nx = datetime.datetime.now()", "_core asks the clock: now"),
        ("module_utils/_core/x.py", "from ansible.errors import AnsibleError", "_core imports ansible.errors"),
        ("module_utils/_core/x.py", "from .._runner import run", "_core imports _runner"),
        ("module_utils/_core/x.py", "from .. import _hypervisor", "_core imports _hypervisor"),
        ("module_utils/_core/x.py", "def f():\n    import socket", "_core imports socket"),
        ("module_utils/_hypervisor/x.py", "from .._runner import run", "_hypervisor imports _runner"),
        ("module_utils/_hypervisor/x.py", "from .._options import size_of", "_hypervisor imports _options"),
        ("module_utils/_hypervisor/x.py", "import pycdlib", "_hypervisor imports pycdlib"),
        ("module_utils/_media/x.py", "from .._hypervisor import x", "_media imports _hypervisor"),
        ("module_utils/_core/x.py", "from .._media import image", "_core imports _media"),
        ("modules/x.py", "import pyfatfs.PyFat", "modules imports pyfatfs.PyFat"),
        ("module_utils/_options.py", "from ._runner import run", "_options imports _runner"),
        ("module_utils/_options.py", "from ._hypervisor import x", "_options imports _hypervisor"),
        ("module_utils/_runner.py", "import libvirt", "_runner imports libvirt"),
        ("module_utils/_runner.py", "from ..modules.vm import plan", "_runner imports modules"),
        ("modules/x.py", "import libvirt", "modules imports libvirt"),
        ("modules/x.py", "import json", "modules imports json"),
        ("modules/x.py", "from ..module_utils._hypervisor import x", "modules imports _hypervisor"),
        ("modules/x.py", "from .vm import plan", "modules imports modules"),
        ("modules/x.py", "import ansible.module_utils.basic", "modules imports ansible.module_utils.basic"),
        ("callback/x.py", "from ansible.module_utils.x import AnsibleModule", "AnsibleModule outside of the runner"),
        ("inventory/x.py", "from ..module_utils._runner import run", "inventory imports _runner"),
        (
            "modules/x.py",
            "from ansible_collections.golden.libvirt.plugins.module_utils._hypervisor.storage import x",
            "modules imports _hypervisor",
        ),
        ("modules/x.py", "class Vm:\n    pass", "the class Vm"),
        ("modules/x.py", "def plan(m):\n    return m.check_mode", "check_mode outside of the runner"),
        ("module_utils/_core/x.py", "try:\n    f()\nexcept Exception:\n    pass", "except Exception in line 3"),
        ("module_utils/_core/x.py", "try:\n    f()\nexcept (Key, Exception):\n    f", "except Exception in line 3"),
        ("module_utils/_hypervisor/x.py", "try:\n    f()\nexcept:\n    pass", "a bare except in line 3"),
    ],
)  # fmt: skip
def test_a_violation_is_found(path: str, source: str, said: str) -> None:
    assert violations(Path(path), source) == [said]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("module_utils/_core/x.py", "from __future__ import annotations\nimport xml.etree.ElementTree as ET, hashlib"),
        (
            "module_utils/_core/x.py",
            "from collections.abc import Callable\nfrom .plan import Plan\nfrom . import names",
        ),
        ("module_utils/_hypervisor/x.py", "import os, socket, libvirt_qemu\nfrom .._core import volume_xml"),
        ("module_utils/_media/x.py", "import pycdlib, pyfatfs.PyFat\nfrom .._core import payload_files"),
        ("modules/x.py", "from ..module_utils._media.image import build_image"),
        ("module_utils/_runner.py", "import time\nfrom ansible.module_utils.basic import AnsibleModule\nm.check_mode"),
        ("modules/x.py", "from ..module_utils._core.vm.vm import plan_vm\nfrom ..module_utils._runner import run"),
        ("modules/x.py", 'DOCUMENTATION = "attributes: check_mode"'),
    ],
)
def test_what_is_allowed_is_no_violation(path: str, source: str) -> None:
    assert violations(Path(path), source) == []
