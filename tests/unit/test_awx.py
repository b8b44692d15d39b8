"""What the playbook awx_configure makes fits the playbooks that the job templates run."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import yaml

from support.surveys import DATA, PLAYBOOKS, TEMPLATES, WORKFLOW, questions


@functools.cache
def options() -> dict[str, dict[str, Any]]:
    """Return the options of the role rollout, of all of its entry points."""
    specs = yaml.safe_load((PLAYBOOKS.parent / "roles/rollout/meta/argument_specs.yml").read_text())["argument_specs"]
    return {name: option for spec in specs.values() for name, option in spec["options"].items()}


def named(template: dict[str, Any]) -> str:
    return str(template["name"])


@pytest.mark.parametrize("template", TEMPLATES, ids=named)
def test_a_job_template_asks_for_variables_of_its_playbook(template: dict[str, Any]) -> None:
    playbook = (PLAYBOOKS / template["playbook"]).read_text()
    asked = [question["variable"] for question in questions(template["survey"])]
    assert len(asked) == len(set(asked))
    for variable in [*asked, *template.get("extra_vars", {})]:
        if variable.startswith(("rollout_", "rollback_")):
            assert variable in options()
        else:
            assert variable in playbook, f"{template['playbook']} has no {variable}"


@pytest.mark.parametrize("part", DATA["awx_configure_questions"])
def test_a_question_can_be_left_unanswered_and_offers_what_there_is(part: str) -> None:
    for question in questions([part]):
        whole = {**DATA["awx_configure_question"], **question}
        assert set(whole) == {"variable", "question_name", *DATA["awx_configure_question"]}
        assert whole["required"] == (question["variable"] in ("publish_template", "rollout_vm_pool"))
        assert (whole["type"] == "multiplechoice") == bool(whole["choices"])
        assert all(isinstance(choice, str) for choice in whole["choices"])
        known = options().get(question["variable"], {}).get("choices")
        if known:
            assert set(whole["choices"]) <= set(known)
        if question["variable"] != "rollback_lifecycle":
            assert not known or set(whole["choices"]) == set(known) - {""}


def test_the_rollout_can_be_asked_for_all_that_is_a_strategy() -> None:
    asked = {question["variable"] for question in questions(TEMPLATES[1]["survey"])}
    files_and_hosts = {"rollout_uri", "rollout_delegate_to", "rollout_report_folder", "rollout_in_use_command"}
    hooks = {name for name in options() if name.endswith("_tasks")}
    fixed = {"rollout_state", "rollout_failed_vm", "rollout_keep_previous", "rollout_shadow_network"}
    shutdown = {"rollout_shutdown_mode", "rollout_shutdown_timeout"}
    back = {"rollback_template_version", "rollback_lifecycle"}
    assert set(options()) - files_and_hosts - hooks - fixed - shutdown - back == asked


def test_the_workflow_is_of_templates_that_there_are_and_asks_what_they_need() -> None:
    by_name = {"{{ awx_prefix }} " + template["name"]: template for template in TEMPLATES}
    nodes = {node["identifier"]: node for node in WORKFLOW["nodes"]}
    asked = {question["variable"] for question in questions(WORKFLOW["survey"])}
    for node in nodes.values():
        for following in node["related"].values():
            assert {after["identifier"] for after in following} <= set(nodes)
        if node["unified_job_template"]["type"] == "job_template":
            template = by_name[node["unified_job_template"]["name"]]
            given = {question["variable"] for question in questions(template["survey"])}
            assert given <= asked
            assert not given & set(template.get("extra_vars", {})), "an answer would hide it"
    path = ["publish"]
    while path[-1] in nodes and nodes[path[-1]]["related"].get("success_nodes"):
        path.append(nodes[path[-1]]["related"]["success_nodes"][0]["identifier"])
    assert path == ["publish", "approve", "rollout"]
    for node in ("approve", "rollout"):
        assert nodes[node]["related"]["failure_nodes"] == [{"identifier": "take_back"}]


@pytest.mark.parametrize("name", ["roll out what was published", "take back what was published"])
def test_the_workflow_goes_by_the_version_that_it_has_published(name: str) -> None:
    template = next(template for template in TEMPLATES if template["name"] == name)
    assert "{{ golden_publish.version }}" in template["extra_vars"].values()
    artifact = (PLAYBOOKS / "publish.yml").read_text().partition("golden_publish:")[2]
    assert "version:" in artifact
