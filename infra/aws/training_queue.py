"""GPU training on AWS Batch: a spot queue and an on-demand queue, with zero machines while no training runs.

Batch is used instead of an ECS capacity provider for three reasons. The worker can read the state of a job, and end a
job that still waits for a machine to use the other queue. A job has a time limit. Batch chooses machines among several
types and zones. A capacity provider leaves a task without a spot machine pending, without a state.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from aws_cdk import Duration, Size, Stack
from aws_cdk import aws_batch as batch
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_iam as iam
from constructs import Construct

from infra.aws.containers import HOME, USER, Images, log_group
from infra.aws.environments import Environment
from infra.aws.network import Network

_VCPU: Final = 4
_MEMORY_MB: Final = 14_000
_DISK_GB: Final = 100
_MACHINES: Final = 1  # one training at a time, like the limit of the deployment
_OVERRUN_SHARE: Final = 0.25  # as in flows/training/reserve.py, for callers that set no limit
_AFTER_RUN_S: Final = 120  # as in flows/training/aws_machine.py


@dataclass(frozen=True, kw_only=True)
class Training:
    """Job queues and job definition of trainings. The worker tries `queues` in order."""

    queues: tuple[batch.JobQueue, ...]
    definition: batch.EcsJobDefinition
    group: ec2.SecurityGroup

    def environment(self, settings: Environment) -> dict[str, str]:
        """Return the variables of the worker."""
        return {
            "EVERGREEN_TRAINING_QUEUES": ",".join(queue.job_queue_name for queue in self.queues),
            "EVERGREEN_TRAINING_DEFINITION": self.definition.job_definition_name,
            "EVERGREEN_BUDGET_S": str(settings.training_budget_s),
            "EVERGREEN_MACHINE_WAIT_S": str(settings.machine_wait_s),
            "EVERGREEN_WINDOW_S": str(settings.window_s),
        }

    def grant_start(self, role: iam.Role) -> None:
        """Allow a role to submit this definition to these queues, and to read and end jobs."""
        stack = Stack.of(role)
        definition = f"arn:{stack.partition}:batch:{stack.region}:{stack.account}:job-definition/{self.name(stack)}:*"
        role.add_to_policy(
            iam.PolicyStatement(
                actions=["batch:SubmitJob"],
                resources=[definition.removesuffix(":*"), definition, *(q.job_queue_arn for q in self.queues)],
            )
        )
        role.add_to_policy(
            iam.PolicyStatement(
                actions=["batch:TerminateJob"],
                resources=[f"arn:{stack.partition}:batch:{stack.region}:{stack.account}:job/*"],
            )
        )
        role.add_to_policy(iam.PolicyStatement(actions=["batch:DescribeJobs"], resources=["*"]))

    @staticmethod
    def name(stack: Stack) -> str:
        """Return the name of the job definition."""
        return f"{stack.stack_name}-training"


def build_training(
    scope: Construct,
    *,
    settings: Environment,
    network: Network,
    images: Images,
    role: iam.Role,
    environment: Mapping[str, str],
) -> Training:
    """Create queues, compute environments and the job definition."""
    stack = Stack.of(scope)
    group = ec2.SecurityGroup(scope, "TrainingGroup", vpc=network.vpc, description="Training machines")
    queues = tuple(
        _build_queue(scope, name, spot=spot, settings=settings, network=network, group=group)
        for name, spot in (("Spot", True), ("OnDemand", False))
    )
    logs = log_group(scope, "Training", environment=settings.name, days=settings.log_days)
    execution = iam.Role(scope, "TrainingExecutionRole", assumed_by=iam.ServicePrincipal("ecs-tasks.amazonaws.com"))
    container = batch.EcsEc2ContainerDefinition(
        scope,
        "TrainingContainer",
        image=images.platform(),
        command=[
            *("python", "-m", "flows.training.train_here", "--budget-s", "Ref::budget_s"),
            *("--reason", "Ref::reason", "--window", "Ref::window"),
        ],
        environment=dict(environment),
        cpu=_VCPU,
        gpu=1,
        memory=Size.mebibytes(_MEMORY_MB),
        job_role=role,
        execution_role=execution,
        logging=ecs.LogDriver.aws_logs(stream_prefix="training", log_group=logs),
        readonly_root_filesystem=True,
        user=USER,
        volumes=[
            batch.HostVolume(name="home", container_path=HOME, readonly=False),
            batch.HostVolume(name="tmp", container_path="/tmp", readonly=False),  # noqa: S108  a volume of the job
        ],
    )
    definition = batch.EcsJobDefinition(
        scope,
        "TrainingJob",
        job_definition_name=Training.name(stack),
        container=container,
        parameters={"budget_s": str(settings.training_budget_s), "reason": "manual", "window": "none"},
        timeout=Duration.seconds(math.ceil((1 + _OVERRUN_SHARE) * settings.training_budget_s) + _AFTER_RUN_S),
        retry_attempts=1,  # the worker tries again, because it has the remaining time
    )
    return Training(queues=queues, definition=definition, group=group)


def _build_queue(
    scope: Construct, name: str, *, spot: bool, settings: Environment, network: Network, group: ec2.SecurityGroup
) -> batch.JobQueue:
    machine = ec2.LaunchTemplate(
        scope,
        f"Training{name}Machine",
        require_imdsv2=True,
        http_put_response_hop_limit=1,
        block_devices=[
            ec2.BlockDevice(
                device_name="/dev/xvda",
                volume=ec2.BlockDeviceVolume.ebs(_DISK_GB, encrypted=True, volume_type=ec2.EbsDeviceVolumeType.GP3),
            )
        ],
    )
    compute = batch.ManagedEc2EcsComputeEnvironment(
        scope,
        f"Training{name}",
        vpc=network.vpc,
        vpc_subnets=network.private,
        security_groups=[group],
        spot=spot,
        instance_types=[ec2.InstanceType(name) for name in settings.training_types],
        use_optimal_instance_classes=False,
        images=[batch.EcsMachineImage(image_type=batch.EcsMachineImageType.ECS_AL2_NVIDIA)],
        minv_cpus=0,
        maxv_cpus=_MACHINES * 8,
        allocation_strategy=(
            batch.AllocationStrategy.SPOT_PRICE_CAPACITY_OPTIMIZED
            if spot
            else batch.AllocationStrategy.BEST_FIT_PROGRESSIVE
        ),
        launch_template=machine,
        replace_compute_environment=False,
        update_to_latest_image_version=True,
    )
    return batch.JobQueue(
        scope,
        f"Training{name}Queue",
        compute_environments=[batch.OrderedComputeEnvironment(compute_environment=compute, order=1)],
    )
