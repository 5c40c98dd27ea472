from __future__ import annotations

import copy
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import boto3
import jsonschema
import pytest
import ray
import yaml
from botocore.model import ServiceModel
from botocore.validate import ParamValidator

from pipeline import numerics
from tests.infra import spoken
from tests.infra.containers import FILES, ROOT, stages
from tests.infra.manifests import KUBERAY

pytestmark = pytest.mark.long  # botocore reads the model of a service: a second each
AWS = ROOT / "infra" / "deploy" / "aws"
POLICIES = ["data-policy.json", "head-policy.json"]
TRUSTS = ["trust-ec2.json", "trust-eks.json"]

NEEDS = {
    "get_object": "s3:GetObject",
    "head_object": "s3:GetObject",
    "put_object": "s3:PutObject",
    "delete_object": "s3:DeleteObject",
    "list_objects_v2": "s3:ListBucket",
    "list_object_versions": "s3:ListBucketVersions",
}
"""What S3 asks of who calls an operation."""
NO_OPERATIONS = {
    "s3:ListBucket",
    "s3:ListBucketVersions",
    "s3:GetObjectVersion",
    "s3:DeleteObjectVersion",
    "iam:PassRole",
}
"""Rights that no operation is named like."""
BOUND = {
    "iam:PassRole": ("iam:PassedToService", "passes a role to any service"),
    "s3:ListBucket": ("s3:prefix", "lists the whole bucket"),
    "ec2:TerminateInstances": ("ResourceTag", "ends any instance"),
}
"""What a condition has to speak of."""
UNBOUND = re.compile(r"ec2:Describe\w+")
"""To look at EC2 is allowed for all of an account or not at all."""

Statement = dict[str, Any]


def statements(name: str) -> list[Statement]:
    policy = json.loads((AWS / name).read_text())
    assert policy["Version"] == "2012-10-17"
    found: list[Statement] = policy["Statement"]
    return found


def listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def service(name: str) -> ServiceModel:
    model: ServiceModel = boto3.Session().client(name, region_name="eu-central-1").meta.service_model
    return model


def too_much(statement: Statement) -> Iterator[str]:
    """What no account of ours needs."""
    if statement["Effect"] != "Allow" or {"NotAction", "NotResource"} & statement.keys():
        yield "says what is not allowed, and allows the rest"
    actions, condition = listed(statement["Action"]), str(statement.get("Condition"))
    for action in actions:
        if "*" in action:
            yield f"{action}: names no action"
        elif action not in NO_OPERATIONS and not is_operation(action):
            yield f"{action}: there is no such action"
        for right, (word, told) in BOUND.items():
            if action.startswith(right) and word not in condition:
                yield told
    for resource in listed(statement["Resource"]):
        if resource == "*" and not all(UNBOUND.fullmatch(action) for action in actions):
            yield "any resource"
        elif resource.startswith("arn:aws:s3:::*") or resource.endswith(("BUCKET/*", ":role/*")):
            yield f"{resource}: more than a prefix or a role"


def is_operation(action: str) -> bool:
    prefix, _, name = action.partition(":")
    return name in service(prefix).operation_names


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_allows_no_more_than_it_names(name: str) -> None:
    assert not [told for statement in statements(name) for told in too_much(statement)]


def star(statement: Statement) -> None:
    statement["Action"] = "s3:*"


def misspelled(statement: Statement) -> None:
    statement["Action"] = ["s3:GetObjects"]


def all_buckets(statement: Statement) -> None:
    statement["Resource"] = "*"


def whole_bucket(statement: Statement) -> None:
    statement["Resource"] = "arn:aws:s3:::BUCKET/*"


@pytest.mark.parametrize(
    ("plant", "told"),
    [
        (star, "names no action"),
        (misspelled, "there is no such action"),
        (all_buckets, "any resource"),
        (whole_bucket, "more than a prefix"),
    ],
)
def test_a_policy_that_allows_more_is_found(plant: Callable[[Statement], None], told: str) -> None:
    statement = copy.deepcopy(statements("data-policy.json")[0])
    plant(statement)
    assert [found for found in too_much(statement) if told in found]


@pytest.mark.parametrize(
    ("name", "sid", "told"),
    [
        ("head-policy.json", "GiveThemTheWorkersRole", "passes a role to any service"),
        ("head-policy.json", "TellOrEndThoseOfTheCluster", "ends any instance"),
        ("data-policy.json", "ListThem", "lists the whole bucket"),
    ],
)
def test_a_statement_that_lost_its_condition_is_found(name: str, sid: str, told: str) -> None:
    (statement,) = (copy.deepcopy(one) for one in statements(name) if one["Sid"] == sid)
    del statement["Condition"]
    assert [found for found in too_much(statement) if told in found]


def allowed(name: str, resource: str) -> set[str]:
    return {
        action
        for statement in statements(name)
        if any(fnmatchcase(resource, pattern) for pattern in listed(statement["Resource"]))
        for action in listed(statement["Action"])
    }


def called() -> set[str]:
    """Operations of S3 that the stores call."""
    source = "".join((ROOT / "infra" / name).read_text() for name in ("s3.py", "storage.py"))
    operations = {operation for operation in xform_names() if re.search(rf"\b{operation}\b", source)}
    return operations | {"get_object"}  # ranges are signed and asked for without the client


def xform_names() -> set[str]:
    made = boto3.Session().client("s3", region_name="eu-central-1")
    return set(made.meta.method_to_api_mapping)


def test_what_the_stores_call_is_allowed_on_the_corpus_and_the_rest_is_only_read() -> None:
    wanted = {
        NEEDS[operation] for operation in called()
    }  # one that is not in the table needs its right looked up
    objects = {right for right in wanted if "List" not in right} | {"s3:DeleteObjectVersion"}
    assert allowed("data-policy.json", "arn:aws:s3:::BUCKET/corpus/versions/000001.json") == objects
    assert allowed("data-policy.json", "arn:aws:s3:::BUCKET") == wanted - objects
    versions = {"s3:GetObject", "s3:GetObjectVersion"}  # a delivery may name the version of an object
    assert allowed("data-policy.json", "arn:aws:s3:::BUCKET/deliveries/a") == versions
    assert allowed("data-policy.json", "arn:aws:s3:::BUCKET/revocations/a") == {"s3:GetObject"}
    assert not allowed("data-policy.json", "arn:aws:s3:::BUCKET/other/a")
    assert not allowed("data-policy.json", "arn:aws:s3:::OTHER/corpus/a")


def test_a_missing_object_is_told_from_a_forbidden_one() -> None:
    """To ask for an object names no prefix. Whoever may not list then is answered 403, and 404 is what says
    that there is no version, lease or shard yet.
    """
    (lists,) = (one for one in statements("data-policy.json") if one["Sid"] == "ListThem")
    assert lists["Condition"].keys() == {"StringLikeIfExists"}


def test_what_rays_autoscaler_calls_on_the_head_is_allowed() -> None:
    source = Path(ray.__file__).parent.joinpath("autoscaler/_private/aws/node_provider.py").read_text()
    assert "self.ec2_fail_fast.create_instances(" in source
    assert "self.ec2.meta.client.create_tags(" in source
    assert "node.terminate()" in source
    given = {action for statement in statements("head-policy.json") for action in listed(statement["Action"])}
    assert {"ec2:RunInstances", "ec2:CreateTags", "ec2:TerminateInstances", "ec2:DescribeInstances"} <= given
    assert "ec2:StopInstances" not in given
    assert cluster()["provider"]["cache_stopped_nodes"] is False  # else it stops and starts them


def cluster() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((AWS / "cluster.yaml").read_text())
    return found


def node_types() -> dict[str, Any]:
    found: dict[str, Any] = cluster()["available_node_types"]
    return found


def schema() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        Path(ray.__file__).parent.joinpath("autoscaler/ray-schema.json").read_text()
    )
    return found


def test_the_cluster_is_as_rays_schema_has_it() -> None:
    jsonschema.validate(cluster(), schema())
    with pytest.raises(jsonschema.ValidationError, match="max_wokers"):
        jsonschema.validate({**cluster(), "max_wokers": 1}, schema())


@pytest.mark.parametrize("kind", ["head", "cpu", "gpu"])
def test_a_node_is_what_ec2_takes(kind: str) -> None:
    wanted = dict(node_types()[kind]["node_config"])
    wanted["SubnetId"] = wanted.pop("SubnetIds")[0]  # Ray chooses one
    shape = service("ec2").operation_model("RunInstances").input_shape
    report = ParamValidator().validate({**wanted, "MinCount": 1, "MaxCount": 1}, shape)
    assert not report.has_errors(), report.generate_report()
    assert ParamValidator().validate({**wanted, "InstanceTyp": "m7i.large"}, shape).has_errors()


def test_the_heads_policy_is_about_the_nodes_that_the_cluster_starts() -> None:
    (start,) = (one for one in statements("head-policy.json") if "StartNodes" in one["Sid"])
    wanted, workers = (
        start["Condition"]["StringEquals"],
        [node_types()[kind]["node_config"] for kind in ("cpu", "gpu")],
    )
    assert wanted["aws:RequestTag/ray-cluster-name"] == cluster()["cluster_name"]
    assert set(wanted["ec2:InstanceType"]) == {worker["InstanceType"] for worker in workers}
    for worker in workers:
        assert start["Condition"]["ArnEquals"]["ec2:InstanceProfile"] == worker["IamInstanceProfile"]["Arn"]
        assert worker["MetadataOptions"]["HttpTokens"] == wanted["ec2:MetadataHttpTokens"]
    (parts,) = (one for one in statements("head-policy.json") if "OurNetwork" in one["Sid"])
    for worker in workers:
        for part in (worker["ImageId"], *worker["SubnetIds"], *worker["SecurityGroupIds"]):
            assert any(resource.endswith(f"/{part}") for resource in parts["Resource"]), part


def test_nodes_are_reached_by_ssh_alone_ask_for_a_token_and_keep_no_disk() -> None:
    wanted = cluster()
    assert wanted["provider"]["use_internal_ips"]
    assert any("--dashboard-host=127.0.0.1" in line for line in wanted["head_start_ray_commands"])
    assert "~/.ray/auth_token" in wanted["file_mounts"]
    for kind in node_types().values():
        for device in kind["node_config"]["BlockDeviceMappings"]:
            assert device["Ebs"]["Encrypted"]
            assert device["Ebs"]["DeleteOnTermination"]


def test_head_and_workers_start_with_the_token_and_as_cpus_of_one_kind(tmp_path: Path) -> None:
    """By the commands themselves, in a home of their own."""
    wanted = cluster()
    lines = [line for line in wanted["setup_commands"] if "pardalis.env" in line]
    for _ in range(2):  # `ray up` sets up again
        subprocess.run(
            ["/bin/bash", "-ec", "touch ~/.bashrc; " + "; ".join(lines)],
            check=True,
            env={"HOME": str(tmp_path)},
        )
    assert (tmp_path / ".bashrc").read_text().count("pardalis.env") == 1
    ray = tmp_path / "venv" / "bin" / "ray"
    ray.parent.mkdir(parents=True)
    ray.write_text("#!/bin/sh\nenv\n")
    ray.chmod(0o700)
    expected = {"RAY_AUTH_MODE": "token", **numerics.ALIKE}
    for part in ("head", "worker"):
        command = wanted[f"{part}_start_ray_commands"][-1].replace("ulimit -n 65536; ", "")
        assert "ray start" in command
        told = subprocess.run(
            ["/bin/bash", "-ec", command],
            check=True,
            capture_output=True,
            text=True,
            env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        ).stdout
        found = dict(line.partition("=")[::2] for line in told.splitlines())
        assert {name: found.get(name) for name in expected} == expected, part


def test_the_build_that_the_file_names_starts_nodes() -> None:
    comments = "\n".join(re.findall("^# (.*)", (AWS / "cluster.yaml").read_text(), flags=re.MULTILINE))
    (build,) = (line for line in spoken.commands(comments) if line.startswith("build"))
    workers = spoken.configured(build).pipeline.workers
    assert workers.ahead > 0
    assert workers.gpus is True
    assert node_types()["gpu"]["max_workers"] > 0


def test_nodes_are_set_up_with_what_the_images_have() -> None:
    steps = [step.text for step in stages(FILES[1])[0].steps]
    (torch,) = (text for text in steps if text.startswith("pip install") and "torch==" in text)
    (extras,) = (text.partition("=")[2] for text in steps if text.startswith("EXTRAS="))
    lines = " ".join(cluster()["setup_commands"])
    assert set(re.findall(r"\S+==\S+", torch)) <= set(lines.split())
    assert f"[{extras}]" in lines


@pytest.mark.parametrize("name", TRUSTS)
def test_a_role_is_for_whom_it_names(name: str) -> None:
    for statement in statements(name):
        assert "*" not in str(statement["Principal"])
        assert statement["Action"].startswith("sts:AssumeRole")
        if "Federated" in statement["Principal"]:
            subjects = next(
                value for key, value in statement["Condition"]["StringEquals"].items() if key.endswith(":sub")
            )
            accounts = list(yaml.safe_load_all((KUBERAY / "base" / "accounts.yaml").read_text()))
            assert {f"system:serviceaccount:pardalis:{one['metadata']['name']}" for one in accounts} == set(
                subjects
            )


def test_the_bucket_answers_nobody_without_tls_and_no_other_account() -> None:
    for statement in statements("bucket-policy.json"):
        assert statement["Effect"] == "Deny"
        assert statement["Resource"] == ["arn:aws:s3:::BUCKET", "arn:aws:s3:::BUCKET/*"]
    conditions = [statement["Condition"] for statement in statements("bucket-policy.json")]
    assert {"Bool": {"aws:SecureTransport": "false"}} in conditions
    assert {"NumericLessThan": {"s3:TlsVersion": "1.2"}} in conditions


@pytest.mark.parametrize(
    ("name", "operation", "argument"),
    [
        ("bucket-ownership.json", "PutBucketOwnershipControls", "OwnershipControls"),
        ("bucket-public.json", "PutPublicAccessBlock", "PublicAccessBlockConfiguration"),
        ("bucket-lifecycle.json", "PutBucketLifecycleConfiguration", "LifecycleConfiguration"),
    ],
)
def test_a_buckets_settings_are_what_s3_takes(name: str, operation: str, argument: str) -> None:
    shape = service("s3").operation_model(operation).input_shape
    wanted = json.loads((AWS / name).read_text())
    report = ParamValidator().validate({"Bucket": "b", argument: wanted}, shape)
    assert not report.has_errors(), report.generate_report()
    assert ParamValidator().validate({"Bucket": "b", argument: {**wanted, "Planted": 1}}, shape).has_errors()


def test_the_owner_owns_all_and_uploads_that_nobody_ends_go() -> None:
    ownership = json.loads((AWS / "bucket-ownership.json").read_text())
    assert [rule["ObjectOwnership"] for rule in ownership["Rules"]] == ["BucketOwnerEnforced"]
    assert all(json.loads((AWS / "bucket-public.json").read_text()).values())
    rules = json.loads((AWS / "bucket-lifecycle.json").read_text())["Rules"]
    assert [rule["AbortIncompleteMultipartUpload"] for rule in rules if rule["Filter"] == {"Prefix": ""}]


def test_every_file_is_one_that_is_checked() -> None:
    settings = {"bucket-policy.json", "bucket-ownership.json", "bucket-public.json", "bucket-lifecycle.json"}
    assert {path.name for path in AWS.iterdir()} == {"cluster.yaml", *POLICIES, *TRUSTS, *settings}
