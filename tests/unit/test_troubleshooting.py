"""docs/troubleshooting.md quotes messages that the code still has."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from ansible.module_utils.basic import missing_required_lib

REPOSITORY = Path(__file__).resolve().parents[2]
VALUE = "\0"
"""What stands for a value in the texts of the code."""


def text_of(node: ast.AST) -> str | None:
    """Return the text of a string, of an f-string, or of several joined by a plus; None for anything else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(value) or VALUE for value in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = text_of(node.left), text_of(node.right)
        return None if left is None or right is None else left + right
    return None


def texts() -> list[str]:
    """Return all texts of the code, and the one message that is Ansible's own."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in (REPOSITORY / "plugins").rglob("*.py")]
    found = [text_of(node) for tree in trees for node in ast.walk(tree)]
    return [text for text in found if text] + [missing_required_lib("libvirt-python")]


def quoted() -> list[str]:
    """Return the messages that the page quotes, on lines of their own and at the beginning of the rows of tables."""
    page = (REPOSITORY / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    return re.findall(r"^> `(.+)`$", page, re.MULTILINE) + re.findall(r"^\| `([^`]+)`", page, re.MULTILINE)


TEXTS = "\n".join(texts())


@pytest.mark.parametrize("message", quoted())
def test_message_is_in_the_code(message: str) -> None:
    parts = [re.escape(part) for part in re.split(r"<[^>]+>", message)]
    assert re.search("[^\n]+?".join(parts), TEXTS), "no message of the code reads like this"


def test_page_quotes_messages() -> None:
    assert len(quoted()) > 40
