"""Manifests as Kustomize makes them, and as KubeRay's definitions and Kubernetes' own judge them.

The surprising rule: a server drops a field that it does not know from a custom resource, and says nothing.
Here it is a fault.
"""

from __future__ import annotations

import copy
import functools
import lzma
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

ROOT = Path(__file__).parents[2]
KUBERAY = ROOT / "infra" / "deploy" / "kuberay"
DEFINITIONS = Path(__file__).with_name("kuberay")
KUBERNETES = "1.34"
NO_NAMESPACE = {"Namespace"}

Document = dict[str, Any]


class Unknown(ValueError):
    """Kustomize could be asked for it, and is not by us."""


def built(folder: Path) -> list[Document]:
    """What ``kubectl apply -k`` would send: of Kustomize the part that the overlays use."""
    wanted: Document = yaml.safe_load((folder / "kustomization.yaml").read_text())
    known = {"apiVersion", "kind", "namespace", "resources", "images", "patches"}
    if beyond := wanted.keys() - known:
        raise Unknown(f"{folder.name}: {sorted(beyond)}")
    found: list[Document] = []
    for name in wanted["resources"]:
        path = folder / name
        found += built(path) if path.is_dir() else list(yaml.safe_load_all(path.read_text()))
    for patch in wanted.get("patches", []):
        chosen = [document for document in found if matches(document, patch["target"])]
        if not chosen:
            raise Unknown(f"no document is {patch['target']}")
        for document in chosen:
            patched(document, yaml.safe_load(patch["patch"]))
    for document in found:
        if "namespace" in wanted and document["kind"] not in NO_NAMESPACE:
            document["metadata"]["namespace"] = wanted["namespace"]
        for container in containers(document):
            container["image"] = renamed(container["image"], wanted.get("images", []))
    return found


def matches(document: Document, target: Mapping[str, str]) -> bool:
    return (document["kind"], document["metadata"]["name"]) == (target["kind"], target["name"])


def renamed(image: str, wanted: list[Mapping[str, str]]) -> str:
    name, _, tag = image.partition(":")
    for one in wanted:
        if one["name"] == name:
            return f"{one['newName']}:{one['newTag']}"
    return f"{name}:{tag}"


def patched(document: Document, operations: list[Mapping[str, Any]]) -> None:
    """In place, by RFC 6902; a path that is not there is an error, but for what is added."""
    for operation in operations:
        *parents, last = operation["path"].removeprefix("/").split("/")
        at: Any = document
        for name in parents:
            at = at[step(at, name)]
        key = step(at, last)
        match operation["op"]:
            case "test":
                assert at[key] == operation["value"], f"{operation['path']} is {at[key]!r}"
            case "remove":
                del at[key]
            case "replace":
                assert at[key] != operation["value"], f"{operation['path']} is that already"
                at[key] = copy.deepcopy(operation["value"])
            case "add":
                assert isinstance(at, dict), operation["path"]
                at[key] = copy.deepcopy(operation["value"])
            case other:
                raise Unknown(other)


def step(at: Any, name: str) -> str | int:
    return int(name) if isinstance(at, list) else name.replace("~1", "/").replace("~0", "~")


def containers(value: Any) -> Iterator[Document]:
    """All that are named so, however deep, as Kustomize looks for images."""
    if isinstance(value, dict):
        for name, inside in value.items():
            if name in {"containers", "initContainers"}:
                yield from inside
            yield from containers(inside)
    elif isinstance(value, list):
        for inside in value:
            yield from containers(inside)


@dataclass(frozen=True, slots=True)
class Pod:
    """One that a document asks for, wherever it stands there."""

    of: str
    spec: Document
    labels: Mapping[str, str]


def pods(document: Document) -> Iterator[Pod]:
    yield from pods_in(document, f"{document['kind']} {document['metadata']['name']}")


def pods_in(value: Any, of: str) -> Iterator[Pod]:
    if isinstance(value, dict):
        if isinstance(spec := value.get("spec"), dict) and "containers" in spec:
            yield Pod(of, spec, value.get("metadata", {}).get("labels", {}))
        for name, inside in value.items():
            yield from pods_in(inside, f"{of}/{name}")
    elif isinstance(value, list):
        for place, inside in enumerate(value):
            yield from pods_in(inside, f"{of}/{place}")


def invalid(document: Document) -> Iterator[str]:
    """What the schema of its kind says against it."""
    if document["apiVersion"] == "ray.io/v1":
        judge = jsonschema.Draft202012Validator(definitions()[document["kind"]])
        for error in judge.iter_errors(document):
            yield f"{error.json_path}: {error.message}"
        return
    try:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        yield f"{'.'.join(map(str, error.path))}: {error.message}"


@functools.cache
def definitions() -> dict[str, Document]:
    """By kind, closed: what they do not name is refused."""
    found = {}
    for file in sorted(DEFINITIONS.glob("*.xz")):
        names = yaml.load(lzma.decompress(file.read_bytes()), yaml.CSafeLoader)["spec"]
        (schema,) = (one["schema"]["openAPIV3Schema"] for one in names["versions"] if one["name"] == "v1")
        found[names["names"]["kind"]] = closed(schema)
    return found


def closed(schema: Document) -> Document:
    """The same, as JSON Schema that refuses a property without a name."""
    made: Document = {}
    for word, value in schema.items():
        match word:
            case "properties":
                made[word] = {name: closed(inside) for name, inside in value.items()}
                if not schema.get("x-kubernetes-preserve-unknown-fields"):
                    made["additionalProperties"] = False
            case "items":
                made[word] = closed(value)
            case "additionalProperties":
                made[word] = closed(value) if isinstance(value, dict) else value
            case "type" if schema.get("nullable"):
                made[word] = [value, "null"]
            case "format" | "nullable":
                pass  # int32 and the like are no formats of JSON Schema
            case _ if not word.startswith("x-"):
                made[word] = value
    return made


def risky(pod: Pod) -> Iterator[str]:
    """What a pod may that none of ours needs."""
    security = pod.spec.get("securityContext", {})
    if not (security.get("runAsNonRoot") is True and security.get("runAsUser", 0) > 0):
        yield f"{pod.of}: may run as root"
    if security.get("seccompProfile") != {"type": "RuntimeDefault"}:
        yield f"{pod.of}: any system call"
    for shared in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.spec.get(shared):
            yield f"{pod.of}: {shared}"
    for container in containers(pod.spec):
        yield from (f"{pod.of}: {told}" for told in risky_container(container, pod.spec))


def risky_container(container: Document, spec: Document) -> Iterator[str]:
    name, security = container["name"], container.get("securityContext", {})
    if security.get("runAsUser", 1) == 0 or security.get("runAsNonRoot") is False:
        yield f"{name} may run as root"
    wanted = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    for word, value in wanted.items():
        if security.get(word) != value:
            yield f"{name}: {word} is {security.get(word)}"
    asked, most = (container.get("resources", {}).get(word, {}) for word in ("requests", "limits"))
    if not most.get("memory") or asked.get("memory") != most["memory"]:
        yield f"{name}: memory that it asks for and may take differ"
    tag = container["image"].partition(":")[2]
    if not tag or tag == "latest":
        yield f"{name}: an image without a version"
    volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
    for mount in container.get("volumeMounts", []):
        if mount["name"] not in volumes:
            yield f"{name}: no volume {mount['name']}"
    for volume in volumes.values():
        if "hostPath" in volume:
            yield f"{name}: a folder of its host"
