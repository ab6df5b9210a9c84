"""Exceptions of the templates from rules of cdk-nag and cfn-lint, with reasons."""

from typing import Final

from aws_cdk import Acknowledgment, Stack, Validations

from infra.aws.storage import CHECKPOINTS, FORGET_FOLDERS, SIGNS

_LAKE: Final = "tasks that write the lake may write any key below lake/, and nothing outside it"
_AGENT: Final = "the ECS agent on the machine: these actions know no resource, and CDK writes its policy"

_AGENT_POLICY: Final = "arn:<AWS::Partition>:iam::aws:policy/service-role/AmazonEC2ContainerServiceforEC2Role"

REASONS: Final[dict[str, str]] = {
    "AwsSolutions-AS3": "machines come and go with the tasks; what matters about them is an alarm on the service",
    "AwsSolutions-EC23": "only the public load balancer is open to the world, on 80 and 443; the rule cannot read the "
    "network's own address range, which is a reference, and so fails on groups that are open to it alone",
    "AwsSolutions-ECS2": "variables hold addresses and sizes; secrets come from Secrets Manager, and a test says so",
    f"AwsSolutions-IAM4[Policy::{_AGENT_POLICY}]": (
        "the managed policy of the ECS agent on Batch's machines, kept up to date by AWS"
    ),
    "AwsSolutions-IAM5[Action::ecs:Submit*]": _AGENT,
    "AwsSolutions-IAM5[Resource::*]": f"{_AGENT}; batch:DescribeJobs and ecr:GetAuthorizationToken know none either",
    "AwsSolutions-RDS11": "the port is reachable from two security groups alone; another number hides nothing",
    "AwsSolutions-SMG4": "a new value needs a restart of the tasks that hold the old one: see docs/operate/aws.md",
}
_DEV_REASONS: Final = {
    "AwsSolutions-RDS3": "dev may be away while its zone is",
    "AwsSolutions-RDS10": "dev is made to be thrown away",
}
LINT_REASONS: Final = {"W3005": "CDK writes dependencies that a reference enforces already; they do no harm"}


def acknowledge(stack: Stack, *, lasting: bool) -> None:
    """Put the reasons on the stack. Without `lasting` those of an installation that may be lost are added."""
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
