"""Reads a synthesised template: which processes run with which words, and what each may do."""

import fnmatch
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ACCOUNT = "123456789012"
REGION = "eu-west-1"  # not the one that libraries fall back to
_PSEUDO = {
    "AWS::Region": REGION,
    "AWS::AccountId": ACCOUNT,
    "AWS::Partition": "aws",
    "AWS::URLSuffix": "amazonaws.com",
    "AWS::StackName": "evergreen-prod",
}


@dataclass(frozen=True, kw_only=True)
class Process:
    """A container of the template. `secrets` names, by variable, the secret's logical id and its key."""

    name: str
    command: list[str]
    environment: dict[str, str]
    secrets: dict[str, tuple[str, str]]
    ports: list[int]
    health: list[str]
    role: str | None
    execution_role: str | None
    user: str | None
    read_only: bool


@dataclass
class Template:
    """One synthesised template. `attributes` resolves (logical id, attribute) where the words here do not."""

    body: dict[str, Any]
    attributes: dict[tuple[str, str], str] = field(default_factory=dict)

    def of(self, kind: str) -> dict[str, dict[str, Any]]:
        """Properties by logical id of every resource of a type."""
        found = self.body["Resources"].items()
        return {name: each.get("Properties", {}) for name, each in found if each["Type"] == kind}

    def resolve(self, value: Any) -> Any:
        """A value with its intrinsic functions carried out."""
        if isinstance(value, list):
            return [self.resolve(each) for each in value]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            ((key, argument),) = value.items()
            if key == "Ref":
                return self._ref(argument)
            if key == "Fn::GetAtt":
                return self._attribute(argument[0], argument[1])
            if key == "Fn::Join":
                return argument[0].join(str(self.resolve(each)) for each in argument[1])
            if key == "Fn::Split":
                return str(self.resolve(argument[1])).split(argument[0])
            if key == "Fn::Select":
                return self.resolve(argument[1])[int(argument[0])]
            if key == "Fn::Sub":
                return str(argument)
        return {key: self.resolve(each) for key, each in value.items()}

    def _ref(self, name: str) -> str:
        if name in _PSEUDO:
            return _PSEUDO[name]
        if name in self.body.get("Parameters", {}):
            return str(self.body["Parameters"][name].get("Default", f"parameter-{name}"))
        kind = self.body["Resources"][name]["Type"]
        if kind in {"AWS::Batch::JobQueue", "AWS::Batch::JobDefinition", "AWS::SecretsManager::Secret"}:
            return self._arn(name)
        if (name, "Ref") in self.attributes:
            return self.attributes[name, "Ref"]
        return name.lower()

    def _attribute(self, name: str, attribute: str) -> str:
        if (name, attribute) in self.attributes:
            return self.attributes[name, attribute]
        return self._arn(name) if attribute.endswith("Arn") else f"{name}.{attribute}"

    def _arn(self, name: str) -> str:
        kind = self.body["Resources"][name]["Type"]
        start = f"arn:aws:{{}}:{REGION}:{ACCOUNT}"
        if kind == "AWS::S3::Bucket":
            return f"arn:aws:s3:::{name.lower()}"
        if kind == "AWS::Batch::JobQueue":
            return f"{start.format('batch')}:job-queue/{name}"
        if kind == "AWS::Batch::JobDefinition":
            named = self.body["Resources"][name]["Properties"]["JobDefinitionName"]
            return f"{start.format('batch')}:job-definition/{named}:1"
        return f"{start.format('any')}:{name}"

    def tasks(self) -> Iterator[Process]:
        """Every container of every ECS task definition."""
        for properties in self.of("AWS::ECS::TaskDefinition").values():
            roles = properties.get("TaskRoleArn"), properties.get("ExecutionRoleArn")
            for container in properties["ContainerDefinitions"]:
                yield self._process(container, container["Name"], *roles)

    def job(self) -> Process:
        """The training job."""
        ((_, properties),) = self.of("AWS::Batch::JobDefinition").items()
        container = properties["ContainerProperties"]
        return self._process(container, "training", container["JobRoleArn"], container["ExecutionRoleArn"])

    def _process(self, container: dict[str, Any], name: str, role: Any, execution_role: Any) -> Process:
        secrets = {}
        for each in container.get("Secrets", []):
            joined = json.dumps(each["ValueFrom"])
            owner = next(s for s in self.secret_names() if f'"{s}"' in joined)
            parts = each["ValueFrom"].get("Fn::Join", ["", []])[1]
            key = str(parts[1]).strip(":") if len(parts) > 1 else ""
            secrets[each["Name"]] = (owner, key)
        return Process(
            name=name,
            command=[str(self.resolve(each)) for each in container["Command"]],
            environment={each["Name"]: str(self.resolve(each["Value"])) for each in container.get("Environment", [])},
            secrets=secrets,
            ports=[each["ContainerPort"] for each in container.get("PortMappings", [])],
            health=list(container.get("HealthCheck", {}).get("Command", [])),
            role=role["Fn::GetAtt"][0] if role else None,
            execution_role=execution_role["Fn::GetAtt"][0] if execution_role else None,
            user=container.get("User"),
            read_only=bool(container.get("ReadonlyRootFilesystem")),
        )

    def secret_names(self) -> list[str]:
        """Logical ids that a secret may be known by: secrets, and their attachments to a database."""
        kinds = ("AWS::SecretsManager::Secret", "AWS::SecretsManager::SecretTargetAttachment")
        return [name for kind in kinds for name in self.of(kind)]

    def statements(self, role: str) -> list[dict[str, Any]]:
        """Return the resolved rights of a role."""
        found = list(self.of("AWS::IAM::Role")[role].get("Policies", []))
        policies = [*self.of("AWS::IAM::Policy").values(), *self.of("AWS::IAM::ManagedPolicy").values()]
        found += [each for each in policies if {"Ref": role} in each.get("Roles", [])]
        return [self.resolve(each) for policy in found for each in policy["PolicyDocument"]["Statement"]]


def listed(value: Any) -> list[str]:
    """One or several words as a list."""
    return [value] if isinstance(value, str) else list(value)


def allows(statements: list[dict[str, Any]], action: str, resource: str) -> bool:
    """IAM's rule for what occurs here: some Allow matches, no Deny; a condition is not understood and never matches."""
    allowed = False
    for each in statements:
        hit = any(fnmatch.fnmatchcase(action, pattern) for pattern in listed(each["Action"])) and any(
            fnmatch.fnmatchcase(resource, pattern) for pattern in listed(each["Resource"])
        )
        if hit and each["Effect"] == "Deny":
            return False
        allowed = allowed or (hit and "Condition" not in each)
    return allowed


def without(statements: list[dict[str, Any]], action: str) -> list[dict[str, Any]]:
    """The statements with one action taken out."""
    return [
        {**each, "Action": left} for each in statements if (left := [a for a in listed(each["Action"]) if a != action])
    ]


def image_environment(dockerfile: str) -> Mapping[str, str]:
    """The ENV lines of a Dockerfile."""
    joined = dockerfile.replace("\\\n", " ")
    pairs = [word for line in joined.splitlines() if line.startswith("ENV ") for word in line[4:].split()]
    return dict(pair.split("=", 1) for pair in pairs)


def image_copies(dockerfile: str, context: Path) -> list[tuple[Path, str]]:
    """Return source and goal of each file and folder that the COPY lines take.

    As with Docker, a pattern may match nothing where another source of its line exists.
    """
    copies = []
    for line in dockerfile.splitlines():
        if line.startswith("COPY "):
            *patterns, goal = line.split()[1:]
            found = [source for pattern in patterns for source in sorted(context.glob(pattern))]
            assert found, f"{line}: no source exists"
            copies += [(source, goal + source.name if goal.endswith("/") else goal) for source in found]
    return copies
