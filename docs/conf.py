"""How Sphinx builds the site: from docs/, the README files, and the reference that antsibull-docs makes of the plugins.

`scripts/test.sh site` runs it on a copy of the collection, so that relative links mean the same as on a code host.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

project = "golden.libvirt"
copyright = "golden.libvirt contributors"

extensions = ["myst_parser", "sphinx_antsibull_ext"]
include_patterns = ["docs/*.md", "README.md", "roles/*/README.md", "reference/**.rst"]
root_doc = "docs/index"
nitpicky = True
default_role = "any"
highlight_language = "YAML+Jinja"
myst_heading_anchors = 3

html_theme = "furo"
html_title = project
html_copy_source = False
html_use_index = False
html_show_sphinx = False
pygments_style = "ansible"
pygments_dark_style = "github-dark"
html_theme_options = {
    # The tables of the reference in the colours of the theme, light and dark
    "light_css_variables": {
        "antsibull-table-background-header": "var(--color-table-header-background)",
        "antsibull-table-background-even": "var(--color-background-secondary)",
        "antsibull-table-background-odd": "var(--color-background-primary)",
        "antsibull-table-border": "var(--color-table-border)",
        "antsibull-narrowtable-background": "var(--color-background-secondary)",
    },
    "dark_css_variables": {
        "antsibull-option-type": "#ff93ff",
        "antsibull-option-elements": "#ff93ff",
        "antsibull-option-required": "#ff8282",
        "antsibull-option-default": "#adadff",
        "antsibull-option-sample": "#adadff",
        "antsibull-option-sample-header": "#ffffff",
        "antsibull-attribute-support-none": "#ff8282",
        "antsibull-attribute-support-partial": "#b6b600",
        "antsibull-attribute-support-full": "#00cc00",
    },
}

ANSIBLE = "https://docs.ansible.com/projects/ansible/latest/"
ELSEWHERE = {
    "action_plugins": "plugins/action.html",
    "ansible_configuration_settings": "reference_appendices/config.html",
    "callback_plugins": "plugins/callback.html",
    "common_return_values": "reference_appendices/common_return_values.html",
}
"""Pages of Ansible's own documentation that the reference refers to."""
VARIABLES_OF_ANSIBLE = "reference_appendices/config.html#envvar-"
VARIABLES_OF_ALL = ("NO_COLOR",)


def add_contents(_app: Sphinx, docname: str, source: list[str]) -> None:
    """Make the links of the front page the table of contents, a part for each of its headings; then the reference."""
    if docname.startswith("reference/"):  # the theme has the contents of each page beside it
        source[0] = re.sub(r"^\.\. contents::\n( +:.*\n)+", "", source[0], flags=re.MULTILINE)
    if docname != root_doc:
        return
    parts = [part.partition("\n") for part in re.split(r"^## ", source[0], flags=re.MULTILINE)[1:]]
    contents = [(caption, re.findall(r"^- \[.*?\]\((.*?)\)", text, re.MULTILINE)) for caption, _, text in parts]
    for caption, links in contents:
        pages = [str(PurePosixPath(link).with_suffix("")) for link in links]
        source[0] += toctree(caption, pages)
    source[0] += toctree("Reference", ["Modules, plugins, roles <../reference/index>"])


def toctree(caption: str, pages: list[str]) -> str:
    """Return a part of the table of contents, which shows beside each page."""
    return "\n".join(["\n```{toctree}", ":hidden:", f":caption: {caption}", "", *pages, "```\n"])


def link_to_ansible(
    _app: Sphinx, _env: BuildEnvironment, reference: pending_xref, content: nodes.TextElement
) -> nodes.Node | None:
    """Return a link for what is explained in Ansible's own documentation."""
    target = reference["reftarget"]
    if target.startswith("ANSIBLE_"):
        page = f"{VARIABLES_OF_ANSIBLE}{target}"
    elif target in VARIABLES_OF_ALL:
        return content
    elif target in ELSEWHERE:
        page = ELSEWHERE[target]
    else:
        return None
    return nodes.reference("", "", content, internal=False, refuri=ANSIBLE + page)


def setup(app: Sphinx) -> None:
    """Tell Sphinx what is ours."""
    app.connect("source-read", add_contents)
    app.connect("missing-reference", link_to_ansible)
