"""The repository keeps its own promises."""

import ast
import re
from pathlib import Path

import pytest
from django.conf import settings

from portal.audit.verbs import SENTENCES
from portal.management.commands.lifecycle_doc import TABLES, document

ROOT = Path(settings.BASE_DIR)
PACKAGES = ["portal", "governance", "contributions", "jobs"]
SOURCES = [path for name in PACKAGES for path in (ROOT / name).rglob("*.py") if "migrations" not in path.parts]


def test_env_example_lists_exactly_the_names_that_settings_reads():
    read = set(re.findall(r'env\.\w+\("([A-Z0-9_]+)"', (ROOT / "portal" / "settings.py").read_text()))
    listed = set(re.findall(r"^([A-Z0-9_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert listed == read


def test_lifecycle_page_is_current():
    assert (ROOT / "docs" / "lifecycle.md").read_text() == document()


def test_every_transition_has_a_sentence_in_the_log():
    verbs = {verb for table in TABLES.values() for verb in table.values()}
    assert verbs - set(SENTENCES) == set()


def test_every_recorded_verb_has_a_sentence():
    recorded = {
        node.args[0].value
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) == "audit.record"
        and isinstance(node.args[0], ast.Constant)
    }
    assert recorded - set(SENTENCES) == set()


def test_top_level_holds_only_the_agreed_names():
    agreed = {
        "manage.py",
        "pyproject.toml",
        "README.md",
        "portal",
        "governance",
        "contributions",
        "jobs",
        "templates",
        "tests",
    }
    plumbing = {"Makefile", "CHANGELOG.md", "docs", "deploy", "constraints.txt", "LICENSE"}
    found = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    assert found - agreed - plumbing - {"dist", "build", "node_modules"} == set()


def test_every_make_verb_of_the_readme_exists():
    verbs = set(re.findall(r"\bmake ([a-z]+)\b", (ROOT / "README.md").read_text()))
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert verbs - targets == set()


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_is_longer_than_400_lines(path):
    assert len(path.read_text().splitlines()) <= 400


def test_no_page_carries_inline_script_or_style():
    inline = re.compile(r"<script(?![^>]*(?:\bsrc=|application/json))[^>]*>|<style|\sstyle=|\son[a-z]+=", re.IGNORECASE)
    found = [
        str(path.relative_to(ROOT)) for path in (ROOT / "templates").rglob("*.html") if inline.search(path.read_text())
    ]
    assert found == []


def test_no_page_loads_anything_of_anybody_else():
    foreign = re.compile(r"(?:src|href)=[\"']https?://[^\"']+\.(?:js|css|woff2?|png|jpg|svg)", re.IGNORECASE)
    found = [
        str(path.relative_to(ROOT)) for path in (ROOT / "templates").rglob("*.html") if foreign.search(path.read_text())
    ]
    assert found == []
