"""Exceptions from rules of cdk-nag and cfn-lint, with reasons."""

from typing import Final

from aws_cdk import Acknowledgment, Stack, Validations

from infra.aws.storage import CHECKPOINTS, FORGET_FOLDERS, SIGNS

_LAKE: Final = "tasks that write the lake may write any key below lake/, and no other key"
_AGENT: Final = "the ECS agent on the machine: CDK writes its policy, and these actions have no resource"

_AGENT_POLICY: Final = "arn:<AWS::Partition>:iam::aws:policy/service-role/AmazonEC2ContainerServiceforEC2Role"

REASONS: Final[dict[str, str]] = {
    "AwsSolutions-AS3": "machines start and end with the tasks; the service has the alarms that matter",
    "AwsSolutions-EC23": "only the public load balancer is open to the internet, on 80 and 443; this rule cannot read "
    "the network's address range, which is a reference, so it fails on groups that are open to this range only",
    "AwsSolutions-ECS2": "variables hold addresses and sizes; secrets come from Secrets Manager, which a test checks",
    f"AwsSolutions-IAM4[Policy::{_AGENT_POLICY}]": (
        "the managed policy of the ECS agent on Batch's machines, kept up to date by AWS"
    ),
    "AwsSolutions-IAM5[Action::ecs:Submit*]": _AGENT,
    "AwsSolutions-IAM5[Resource::*]": f"{_AGENT}; batch:DescribeJobs and ecr:GetAuthorizationToken have none either",
    "AwsSolutions-RDS11": "the port is reachable from two security groups only; another number adds no protection",
    "AwsSolutions-SMG4": "a new value needs a restart of the tasks that use the old one: see docs/operate/aws.md",
}
_DEV_REASONS: Final = {
    "AwsSolutions-RDS3": "dev may be unavailable while its zone is",
    "AwsSolutions-RDS10": "dev may be deleted with its data",
}
LINT_REASONS: Final = {"W3005": "CDK writes dependencies that a reference already enforces; they are harmless"}


def acknowledge(stack: Stack, *, lasting: bool) -> None:
    """Add the reasons to the stack. Without `lasting`, add the reasons of an installation that may be deleted."""
    job = "arn:<AWS::Partition>:batch:<AWS::Region>:<AWS::AccountId>"
    named = {
        **REASONS,
        **({} if lasting else _DEV_REASONS),
        f"AwsSolutions-IAM5[Resource::{job}:job-definition/{stack.stack_name}-training:*]": "any revision of one job",
        f"AwsSolutions-IAM5[Resource::{job}:job/*]": "a job's id is not known before it is submitted",
        **{
            f"AwsSolutions-IAM5[Resource::<{_logical(stack, name)}.Arn>/{prefix}/*]": _LAKE
            for name, prefix in _PREFIXES
        },
    }
    rules = [Acknowledgment(id=rule, reason=reason) for rule, reason in named.items()]
    Validations.of(stack).acknowledge(*rules)


_PREFIXES: Final = (
    ("Lake", "lake"),
    *(("Lake", f"lake/{folder}") for folder in (*CHECKPOINTS, *FORGET_FOLDERS, *SIGNS)),
    ("Artifacts", "mlflow"),
)


def _logical(stack: Stack, name: str) -> str:
    bucket = stack.node.find_child(name).node.default_child
    return str(stack.resolve(bucket.logical_id))
