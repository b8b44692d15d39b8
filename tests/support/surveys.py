"""What the playbook awx_configure makes: its job templates, their surveys, the workflow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

PLAYBOOKS = Path(__file__).resolve().parents[2] / "playbooks"


class Loader(yaml.SafeLoader):
    """Reads what Ansible is not to template as the text that it is."""


Loader.add_constructor("!unsafe", lambda loader, node: loader.construct_scalar(node))

DATA: dict[str, Any] = yaml.load((PLAYBOOKS / "vars" / "awx_configure.yml").read_text(), Loader)
TEMPLATES: list[dict[str, Any]] = DATA["awx_configure_templates"]
WORKFLOW: dict[str, Any] = DATA["awx_configure_workflow"]


def questions(survey: list[str]) -> list[dict[str, Any]]:
    """Return the questions of a survey."""
    return [question for part in survey for question in DATA["awx_configure_questions"][part]]
