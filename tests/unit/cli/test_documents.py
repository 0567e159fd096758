"""The documents keep their promises: each error has its section, each link its target, each rule is one."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from proxy.config import load_config
from proxy.document import parse_document
from proxy.metrics import known_sqlstates
from proxy.rules_load import resolve

ROOT = Path(__file__).resolve().parents[3]
DOCUMENTS = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs").glob("*.md"))]


def anchors(text: str) -> set[str]:
    """Targets that a link of this page may name."""
    headings = re.findall(r"^#+ (.+)$", text, re.M)
    made = {re.sub(r"[^a-z0-9 _-]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return made | set(re.findall(r'<a id="([^"]+)">', text))


@pytest.mark.parametrize("sqlstate", sorted(known_sqlstates()))
def test_errors_page_each_sqlstate_has_its_anchor(sqlstate: str) -> None:
    """A message links docs/errors.md#<sqlstate in lower case>."""
    assert sqlstate.lower() in anchors((ROOT / "docs" / "errors.md").read_text())


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: page.name)
def test_document_links_lead_somewhere(page: Path) -> None:
    """Every relative link names a file of the project, and its anchor is there."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith(("http:", "https:")):
            continue
        name, _, anchor = target.partition("#")
        found = (page.parent / name).resolve() if name else page
        assert found.exists(), f"{page.name}: {target}"
        if anchor and found.suffix == ".md":
            assert anchor in anchors(found.read_text()), f"{page.name}: {target}"


@pytest.mark.parametrize("page", ["README.md", "docs/rules.md"])
def test_document_rules_are_valid(page: str) -> None:
    """The example of rules is taken by the loader as it stands."""
    (example,) = re.findall(r"^```yaml\n(version: 1\n.*?)^```", (ROOT / page).read_text(), re.M | re.S)
    problems: list[str] = []
    assert resolve(parse_document(example.encode(), page), "app", problems) is not None, problems


def test_operations_page_names_every_key_of_the_configuration(tmp_path: Path) -> None:
    """No key is without its line."""
    path = tmp_path / "pgseal.yaml"
    path.write_text(
        "state: s\nrules: r\nservice: postgresql://p@127.0.0.1/a\nkms: {main: {provider: local, keyfile: k}}\n"
    )
    config = load_config(path, {})
    text = (ROOT / "docs" / "operations.md").read_text()
    written = {"max_message_size": "max_message"}
    later = {"catalog", "fips"}
    for name in {field.name for field in fields(config)} - later:
        assert f"`{written.get(name, name)}`" in text, name
