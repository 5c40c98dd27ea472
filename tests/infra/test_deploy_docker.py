from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tests.infra import containers
from tests.infra.containers import FILES, ROOT, Stage

CPU, CUDA = FILES


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_dockerfile_has_no_fault(file: Path) -> None:
    assert not list(containers.faults(file))


@pytest.mark.parametrize(
    ("of", "planted", "told"),
    [
        ("debian:12.12-slim", "debian:bookworm-slim", "no release and no digest"),
        ("USER 10001:10001", "USER root", "USER root"),
        ("USER 10001:10001\n", "", "USER root"),
        ("USER 10001:10001", "USER pardalis", "USER pardalis"),
        ("HEALTHCHECK NONE", "RUN touch /home/pardalis/here", "a step after USER"),
        ("COPY infra infra", "ADD https://example.org/infra.tar /src", "ADD https://example.org"),
        ("WORKDIR /src", "ARG HUB_TOKEN", "ARG HUB_TOKEN"),
        ("PYTHONUNBUFFERED=1", "AWS_SECRET_ACCESS_KEY=x", "ENV AWS_SECRET_ACCESS_KEY"),
        ("--index-url ${TORCH_INDEX}", "--index-url https://me:word@example.org/simple", "a password in it"),
        ("--no-install-recommends python3-venv", "python3-venv", "without --no-install-recommends"),
        ('ENTRYPOINT ["pardalis"]', 'ENTRYPOINT ["sh"]', "ENTRYPOINT"),
    ],
)
def test_what_is_wrong_with_a_dockerfile_is_told(of: str, planted: str, told: str, tmp_path: Path) -> None:
    text = CPU.read_text()
    assert of in text
    file = tmp_path / "Dockerfile"
    file.write_text(text.replace(of, planted))
    assert [fault for fault in containers.faults(file) if told in fault]


def test_both_dockerfiles_have_the_same_steps_but_for_cuda() -> None:
    def steps(stages: list[Stage]) -> set[tuple[str, str, str]]:
        return {(stage.name, step.kind, step.text) for stage in stages for step in stage.steps}

    cpu, cuda = (steps(containers.stages(file)) for file in FILES)
    assert {text for _, _, text in cpu - cuda} == {"TORCH_INDEX=https://download.pytorch.org/whl/cpu"}
    assert {text for _, _, text in cuda - cpu} == {
        "TORCH_INDEX=https://download.pytorch.org/whl/cu130",
        "NVIDIA_DRIVER_CAPABILITIES=compute,utility",
    }
    assert [stage.base for stage in containers.stages(CPU)] == [
        stage.base for stage in containers.stages(CUDA)
    ]


def test_images_have_the_torch_and_the_extras_that_the_project_names() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = {line for line in project["dependencies"] if line.startswith("torch")} & {
        line for line in project["dependencies"] if "==" in line
    }
    build = containers.stages(CPU)[0]
    installed = next(step.text for step in build.steps if "torch" in step.text and step.kind == "RUN")
    assert pins == set(re.findall(r"\S+==\S+", installed))
    (extras,) = (step.text for step in build.steps if step.text.startswith("EXTRAS="))
    # `dev` are the tests' tools, and the demo makes its corpus with npm.
    assert set(extras.removeprefix("EXTRAS=").split(",")) == set(project["optional-dependencies"]) - {
        "dev",
        "demo",
    }


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_build_is_given_the_packages_and_nothing_that_lies_beside(file: Path) -> None:
    rules = containers.rules(file)
    sources = [
        word
        for step in containers.stages(file)[0].steps
        if step.kind == "COPY"
        for word in step.text.split()[:-1]
    ]
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert {*wheel["packages"], "pyproject.toml", "README.md", "LICENSE"} == set(sources)
    given = {path.name for path in ROOT.iterdir() if not containers.ignored(path.name, rules)}
    assert given == set(sources)
    beside = [
        ".git/config",
        "demo/corpus/a",
        "token.txt",
        ".venv/bin/x",
        "infra/__pycache__/a.pyc",
        "tests/a.py",
    ]
    assert all(containers.ignored(path, rules) for path in beside)
