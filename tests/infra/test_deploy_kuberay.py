from __future__ import annotations

import copy
import functools
import importlib
import re
import string
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml
from ray.serve.schema import ServeDeploySchema

from infra import metrics
from infra.serving import hosted
from pipeline import numerics
from tests.infra import manifests, spoken
from tests.infra.manifests import KUBERAY, Document, built

SECRETS = {"pardalis-ray", "pardalis-callers"}
"""Made by hand, as infra/deploy/README.md says."""
pytestmark = pytest.mark.long  # 3.4 MB of YAML
OVERLAYS = [KUBERAY / "overlays" / name for name in ("small", "gpu")]
FOLDERS = [KUBERAY / "base", KUBERAY / "services", KUBERAY / "jobs", *OVERLAYS]
GIB = {"Mi": 1 / 1024, "Gi": 1.0, "Ti": 1024.0}


@functools.cache
def found(folder: Path) -> list[Document]:
    return built(folder)


def everything() -> list[Document]:
    return [document for name in ("base", "services", "jobs") for document in found(KUBERAY / name)]


def one(kind: str, name: str) -> Document:
    (document,) = (copy.deepcopy(each) for each in everything() if matches(each, kind, name))
    return document


def matches(document: Document, kind: str, name: str) -> bool:
    return (document["kind"], document["metadata"]["name"]) == (kind, name)


def groups(document: Document) -> Iterator[Document]:
    """Of nodes of Ray."""
    spec = document.get("spec", {})
    spec = spec.get("rayClusterConfig", spec)
    if "headGroupSpec" in spec:
        yield spec["headGroupSpec"]
        yield from spec["workerGroupSpecs"]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_every_manifest_is_valid_and_risks_nothing(folder: Path) -> None:
    documents = found(folder)
    assert documents
    assert not [fault for document in documents for fault in manifests.invalid(document)]
    assert not [
        told for document in documents for pod in manifests.pods(document) for told in manifests.risky(pod)
    ]


def test_no_manifest_lies_beside_what_is_built() -> None:
    named = {
        path.resolve()
        for folder in FOLDERS
        for path in (
            folder / name for name in yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
        )
        if path.is_file()
    }
    lying = {path for path in KUBERAY.rglob("*") if path.is_file() and path.name != "kustomization.yaml"}
    assert lying == named


def misspelled(document: Document) -> None:
    document["spec"]["enableInTreeAutoscalling"] = document["spec"].pop("enableInTreeAutoscaling")


def deep(document: Document) -> None:
    container = next(manifests.containers(document))
    container["securityContext"]["readOnlyRootFileSystem"] = True


def no_mode(document: Document) -> None:
    document["spec"]["authOptions"]["mode"] = "tokens"


def a_word(document: Document) -> None:
    document["spec"]["workerGroupSpecs"][0]["maxReplicas"] = "many"


def without_a_template(document: Document) -> None:
    del document["spec"]["headGroupSpec"]["template"]


@pytest.mark.parametrize(
    ("plant", "told"),
    [
        (misspelled, "enableInTreeAutoscalling"),
        (deep, "readOnlyRootFileSystem"),
        (no_mode, "tokens"),
        (a_word, "many"),
        (without_a_template, "template"),
    ],
)
def test_a_fault_in_a_custom_resource_is_found(plant: Callable[[Document], None], told: str) -> None:
    document = one("RayCluster", "pardalis")
    plant(document)
    assert [fault for fault in manifests.invalid(document) if told in fault]


def test_a_fault_in_a_kind_of_kubernetes_own_is_found() -> None:
    document = one("NetworkPolicy", "nodes")
    document["spec"]["podSelektor"] = document["spec"].pop("podSelector")
    assert [fault for fault in manifests.invalid(document) if "podSelektor" in fault]


def as_root(pod: Document) -> None:
    pod["securityContext"]["runAsUser"] = 0


def container_as_root(pod: Document) -> None:
    pod["containers"][0]["securityContext"]["runAsUser"] = 0


def privileged(pod: Document) -> None:
    pod["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True


def writable(pod: Document) -> None:
    pod["containers"][0]["securityContext"]["readOnlyRootFilesystem"] = False


def boundless(pod: Document) -> None:
    del pod["containers"][0]["resources"]["limits"]["memory"]


def newest(pod: Document) -> None:
    pod["containers"][0]["image"] = "pardalis:latest"


def of_the_host(pod: Document) -> None:
    pod["volumes"].append({"name": "host", "hostPath": {"path": "/"}})


def not_there(pod: Document) -> None:
    pod["containers"][0]["volumeMounts"].append({"name": "datta", "mountPath": "/data"})


@pytest.mark.parametrize(
    ("plant", "told"),
    [
        (as_root, "may run as root"),
        (container_as_root, "may run as root"),
        (privileged, "allowPrivilegeEscalation"),
        (writable, "readOnlyRootFilesystem"),
        (boundless, "memory"),
        (newest, "without a version"),
        (of_the_host, "a folder of its host"),
        (not_there, "no volume datta"),
    ],
)
def test_a_pod_that_may_too_much_is_found(plant: Callable[[Document], None], told: str) -> None:
    for document in (
        one("RayCluster", "pardalis"),
        one("RayService", "pardalis-search"),
        one("RayJob", "pardalis-train"),
    ):
        pod = next(manifests.pods(document))
        plant(pod.spec)
        assert [fault for fault in manifests.risky(pod) if told in fault]


def test_the_autoscaler_beside_the_head_may_no_more_than_a_pod_of_ours() -> None:
    options = one("RayCluster", "pardalis")["spec"]["autoscalerOptions"]
    spec = {"securityContext": {}, "volumes": []}
    beside = {
        "name": "autoscaler",
        "image": "pardalis:0.1.0",
        **{k: options[k] for k in ("resources", "securityContext")},
    }
    assert not list(manifests.risky_container(beside, spec))
    assert beside["securityContext"]["runAsNonRoot"]


def test_every_cluster_asks_for_a_token_and_runs_the_ray_that_is_tested() -> None:
    clusters = [
        document["spec"].get("rayClusterConfig", document["spec"])
        for document in everything()
        if document["kind"] in {"RayCluster", "RayService"}
    ]
    assert len(clusters) == 3
    for cluster in clusters:
        assert cluster["authOptions"] == {"mode": "token", "secretName": "pardalis-ray"}
        assert cluster["rayVersion"] == ray.__version__


def test_all_nodes_are_cpus_of_one_kind() -> None:
    """A driver keys steps for its own kind, and workers of another refuse them."""
    settings = one("ConfigMap", "pardalis")
    assert settings["data"].items() >= numerics.ALIKE.items()
    nodes = [
        node["template"]["spec"]["containers"][0] for document in everything() for node in groups(document)
    ]
    assert len(nodes) == 7  # three heads, and the workers of each
    for node in nodes:
        assert {"configMapRef": {"name": "pardalis"}} in node["envFrom"]
        assert not {each["name"] for each in node.get("env", [])} & numerics.ALIKE.keys()


def test_shared_memory_is_a_part_of_a_pods_memory_and_holds_what_ray_puts_there() -> None:
    """Ray keeps 30 % of a node's memory for objects; where /dev/shm is smaller, it falls back to a disk."""
    for document in everything():
        for pod in manifests.pods(document):
            for volume in pod.spec["volumes"]:
                if volume.get("emptyDir", {}).get("medium") == "Memory":
                    memory = gib(pod.spec["containers"][0]["resources"]["limits"]["memory"])
                    assert gib(volume["emptyDir"]["sizeLimit"]) < memory / 2, pod.of


def gib(text: str) -> float:
    return float(text[:-2]) * GIB[text[-2:]]


def test_workers_come_from_none_and_a_head_holds_no_work() -> None:
    cluster = one("RayCluster", "pardalis")["spec"]
    assert cluster["enableInTreeAutoscaling"]
    assert cluster["autoscalerOptions"]["version"] == "v2"
    assert {group["groupName"]: group["minReplicas"] for group in cluster["workerGroupSpecs"]} == {
        "cpu": 0,
        "gpu": 0,
    }
    for document in everything():
        for head in list(groups(document))[:1]:
            assert head["rayStartParams"]["num-cpus"] == "0"


def test_what_is_named_is_there() -> None:
    documents = everything()
    there = {(document["kind"], document["metadata"]["name"]) for document in documents}
    there |= {("Secret", name) for name in SECRETS}
    for document in documents:
        for pod in manifests.pods(document):
            for kind, name in named(pod.spec):
                assert (kind, name) in there, f"{pod.of}: {kind} {name}"
        if document["kind"] == "RayJob":
            assert ("RayCluster", document["spec"]["clusterSelector"]["ray.io/cluster"]) in there
            assert "backoffLimit" not in document["spec"]  # the operator refuses both


def test_files_that_a_comment_names_are_there() -> None:
    named = [
        name
        for path in KUBERAY.rglob("*.yaml")
        for comment in re.findall(r"(?:^|\s)#\s(.*)", path.read_text())
        for name in re.findall(r"\b\w+/[\w-]+\.(?:json|yaml|md)\b", comment)
    ]
    assert len(named) > 1
    assert not [name for name in named if not any((at / name).is_file() for at in (KUBERAY, KUBERAY.parent))]


def named(spec: Document) -> Iterator[tuple[str, str]]:
    if "serviceAccountName" in spec:
        yield "ServiceAccount", spec["serviceAccountName"]
    for container in manifests.containers(spec):
        for source in container.get("envFrom", []):
            yield "ConfigMap", source["configMapRef"]["name"]
        for variable in container.get("env", []):
            if "valueFrom" in variable:
                yield "Secret", variable["valueFrom"]["secretKeyRef"]["name"]
    for volume in spec.get("volumes", []):
        if "secret" in volume:
            yield "Secret", volume["secret"]["secretName"]
        if "persistentVolumeClaim" in volume:
            yield "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]


def test_no_secret_stands_in_a_manifest() -> None:
    for path in KUBERAY.rglob("*.yaml"):
        for document in yaml.safe_load_all(path.read_text()):
            assert document["kind"] != "Secret"
            for container in manifests.containers(document):
                for variable in container.get("env", []):
                    assert "value" not in variable or not re.search(
                        "TOKEN$|SECRET|KEY|PASSW", variable["name"]
                    )


@pytest.mark.parametrize("name", ["pardalis-search", "pardalis-tokenizer"])
def test_serve_takes_what_a_service_is_configured_by(name: str) -> None:
    service = one("RayService", name)["spec"]
    told = yaml.safe_load(service["serveConfigV2"])
    configured = ServeDeploySchema.model_validate(told)
    assert configured.proxy_location == "Disabled"
    (application,) = configured.applications
    module, _, builder = application.import_path.partition(":")
    assert getattr(importlib.import_module(module), builder) is hosted.app
    command = hosted.Arguments.model_validate(application.args).command
    assert spoken.refused(command) is None
    # Serve takes words that it does not know.
    known = configured.model_dump(exclude_unset=True)
    assert told.keys() == known.keys()
    (kept,) = application.deployments
    made = hosted.app(hosted.Arguments.model_validate(application.args))
    assert kept.name == made._bound_deployment.name  # noqa: SLF001  # nothing public tells it
    # A door a pod, and as many pods as doors.
    (workers,) = service["rayClusterConfig"]["workerGroupSpecs"]
    assert kept.num_replicas == workers["replicas"] == workers["minReplicas"]
    assert kept.ray_actor_options is not None
    assert kept.ray_actor_options.resources == {"door": 1.0}
    assert workers["rayStartParams"] == {"resources": '"{\\"door\\": 1}"'}


def test_a_door_listens_where_its_pod_is_asked() -> None:
    for name in ("pardalis-search", "pardalis-tokenizer"):
        service = one("RayService", name)["spec"]
        workers = service["rayClusterConfig"]["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]
        ports = {port["name"]: port["containerPort"] for port in workers["ports"]}
        assert ports["serve"] == default_port()
        assert workers["readinessProbe"]["httpGet"] == {"path": "/healthz", "port": "serve"}
        (mount,) = (mount for mount in workers["volumeMounts"] if mount["name"] == "callers")
        assert f"--token-file {mount['mountPath']}/" in service["serveConfigV2"]


def default_port() -> int:
    return importlib.import_module("infra.serving.options").DoorOptions().port


@pytest.mark.parametrize("name", ["pardalis-build", "pardalis-train"])
def test_what_a_job_runs_is_a_command_of_ours(name: str) -> None:
    job = one("RayJob", name)["spec"]
    lines = spoken.commands(job["entrypoint"])
    assert lines
    assert not [told for told in map(spoken.refused, lines) if told]


@pytest.mark.parametrize("folder", [KUBERAY / "base", *OVERLAYS], ids=lambda folder: folder.name)
def test_a_build_asks_for_nodes_that_are_not_up_yet_and_for_gpus_where_a_group_has_them(folder: Path) -> None:
    (data,) = (each["data"] for each in found(folder) if each["kind"] == "ConfigMap")
    (cluster,) = (each for each in found(folder) if matches(each, "RayCluster", "pardalis"))
    names = {group.get("groupName") for group in groups(cluster)}
    entrypoint = one("RayJob", "pardalis-build")["spec"]["entrypoint"]
    ingest, build, status = spoken.commands(string.Template(entrypoint).substitute(data))
    assert status == "status"
    for line in (ingest, build):
        workers = spoken.configured(line).pipeline.workers
        assert workers.ahead > 0
        assert workers.gpus is ("gpu" in names), folder


def test_prometheus_reaches_what_a_job_tells() -> None:
    environment = yaml.safe_load(one("RayJob", "pardalis-build")["spec"]["runtimeEnvYAML"])["env_vars"]
    host, _, port = environment[metrics.ADDRESS].partition(":")
    assert host == "0.0.0.0"  # noqa: S104  # of a pod, which the policy closes
    (cpu,) = (group for group in groups(one("RayCluster", "pardalis")) if group.get("groupName") == "cpu")
    ports = {
        each["name"]: each["containerPort"] for each in cpu["template"]["spec"]["containers"][0]["ports"]
    }
    assert ports["jobs"] == int(port)
    (monitored,) = (
        {each["port"] for each in rule["ports"]}
        for rule in one("NetworkPolicy", "nodes")["spec"]["ingress"]
        if any("monitoring" in str(who) for who in rule["from"])
    )
    assert set(ports.values()) | {default_port()} <= monitored


def test_a_command_that_is_none_is_told() -> None:
    assert spoken.refused("train --workers 4") is not None
    assert spoken.refused("build --too tokenize") is not None
    assert spoken.refused("build --to tokens") is not None
    assert spoken.refused("logs --step ingest") is not None
    assert spoken.refused("build --to tokenize") is spoken.refused("logs --step images") is None
    assert spoken.commands("sh -ec 'pardalis ingest a; pardalis build'") == ["ingest a", "build"]


def test_a_training_begins_where_gpus_are() -> None:
    wanted = yaml.safe_load(one("RayJob", "pardalis-train")["spec"]["entrypointResources"])
    (gpu,) = (group for group in groups(one("RayCluster", "pardalis")) if group.get("groupName") == "gpu")
    assert yaml.safe_load(yaml.safe_load(gpu["rayStartParams"]["resources"])).keys() == wanted.keys()


def test_who_comes_in_is_named_and_the_hosts_role_stays_out_of_reach() -> None:
    nobody, nodes = one("NetworkPolicy", "nobody")["spec"], one("NetworkPolicy", "nodes")["spec"]
    assert nobody == {"podSelector": {}, "policyTypes": ["Ingress"]}
    open_to_all = [rule for rule in nodes["ingress"] if not rule.get("from")]
    assert not open_to_all
    by_port = {port["port"] for rule in nodes["ingress"] for port in rule.get("ports", [])}
    assert {8000, 8080, 8265} <= by_port
    assert 6379 not in by_port  # who reaches it runs any code: only nodes do
    beyond = [to["ipBlock"] for rule in nodes["egress"] for to in rule["to"] if "ipBlock" in to]
    assert beyond
    assert all("169.254.0.0/16" in block["except"] for block in beyond)
    (submitter,) = manifests.pods(one("RayJob", "pardalis-build"))
    clients = [
        who["podSelector"]["matchLabels"]
        for rule in nodes["ingress"]
        for who in rule["from"]
        if "podSelector" in who
    ]
    assert submitter.labels in clients


@pytest.mark.parametrize("folder", OVERLAYS, ids=lambda folder: folder.name)
def test_an_overlay_names_a_registry_for_every_image(folder: Path) -> None:
    images = {
        container["image"] for document in found(folder) for container in manifests.containers(document)
    }
    assert images
    assert all(image.startswith("registry.example/pardalis:0.1.0") for image in images)


def test_overlays_say_how_many_nodes() -> None:
    def most(folder: Path) -> dict[str, Any]:
        (cluster,) = (document for document in found(folder) if document["kind"] == "RayCluster")
        return {group["groupName"]: group["maxReplicas"] for group in cluster["spec"]["workerGroupSpecs"]}

    assert [most(folder) for folder in OVERLAYS] == [{"cpu": 2}, {"cpu": 64, "gpu": 16}]


def test_a_patch_that_meets_nothing_is_an_error() -> None:
    cluster = one("RayCluster", "pardalis")
    for wrong in (
        {"op": "replace", "path": "/spec/headGroupSpecs/template", "value": 1},
        {"op": "test", "path": "/spec/workerGroupSpecs/0/groupName", "value": "gpu"},
        {"op": "remove", "path": "/spec/workerGroupSpecs/2"},
    ):
        with pytest.raises((LookupError, AssertionError)):
            manifests.patched(cluster, [wrong])
