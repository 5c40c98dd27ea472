from __future__ import annotations

import re

import pytest

from infra.settings import FOLDER, packaged
from tests.infra import spoken
from tests.infra.manifests import ROOT

DEPLOY = ROOT / "infra" / "deploy"
TEXT = (DEPLOY / "README.md").read_text()


def test_every_file_that_the_readme_names_is_there() -> None:
    spans = re.findall(r"`([^`\n]+)`", TEXT)
    roots = {"docker", "kuberay", "aws", "observability"}
    named = {span.rstrip("/") for span in spans if span.split("/")[0] in roots}
    named |= {word.removeprefix("infra/deploy/") for word in re.findall(r"infra/deploy/[\w./-]+\w", TEXT)}
    assert len(named) > 10
    for name in named:
        assert list(DEPLOY.glob(name)), name


def test_every_folder_and_policy_is_told_of() -> None:
    for path in DEPLOY.iterdir():
        assert path.name == "README.md" or f"`{path.name}{'/' * path.is_dir()}" in TEXT, path.name
    for path in (DEPLOY / "aws").glob("*policy.json"):
        assert path.name in TEXT or path.name.startswith("bucket-"), path.name


def test_settings_are_named_as_every_node_has_them() -> None:
    texts = [ROOT / "README.md", *DEPLOY.rglob("*.md"), *DEPLOY.rglob("*.yaml"), *FOLDER.glob("*.toml")]
    named = [word for path in texts for word in re.findall(r"--config ([\w./-]+)", path.read_text())]
    assert len(named) > 10
    assert set(named) <= {*packaged()}


@pytest.mark.long
def test_commands_that_the_readme_names_are_ours() -> None:
    spans = [*re.findall(r"`([^`\n]+)`", TEXT), *re.findall("^pardalis .*", TEXT, re.MULTILINE)]
    lines = [line for span in spans for line in spoken.commands(span)]
    assert any(line.startswith("build") for line in lines)
    assert not [told for told in map(spoken.refused, lines) if told]
