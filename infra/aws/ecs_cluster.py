"""ECS cluster, and EC2 capacity that follows the number of tasks."""

from typing import Final

from aws_cdk import Duration
from aws_cdk import aws_autoscaling as autoscaling
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_iam as iam
from constructs import Construct

from infra.aws.network import Network

_DISK_GB: Final = 40
_HARDWARE: Final = {"arm64": ecs.AmiHardwareType.ARM, "amd64": ecs.AmiHardwareType.STANDARD}


def build_cluster(scope: Construct, *, network: Network) -> ecs.Cluster:
    """Create a cluster with Fargate's capacity providers and container insights."""
    return ecs.Cluster(
        scope,
        "Cluster",
        vpc=network.vpc,
        container_insights_v2=ecs.ContainerInsights.ENABLED,
        enable_fargate_capacity_providers=True,
    )


def add_capacity(
    cluster: ecs.Cluster,
    name: str,
    *,
    network: Network,
    instance_type: str,
    processor: str,
    floor: int,
    ceiling: int,
    spot: bool = False,
) -> ecs.AsgCapacityProvider:
    """Add machines that ECS starts when a task needs a place, and ends when no task runs on them.

    Args:
        cluster: gets the machines.
        name: name of the capacity provider.
        network: machines are in its private subnets.
        instance_type: EC2 type.
        processor: arm64 or amd64; must be that of the type.
        floor: machines that always run; 0: none.
        ceiling: machines, at most.
        spot: True for spot machines, which AWS may end with two minutes' notice.
    """
    scope = cluster.node.scope
    assert scope is not None
    template = ec2.LaunchTemplate(
        scope,
        f"{name}Machine",
        instance_type=ec2.InstanceType(instance_type),
        machine_image=ecs.EcsOptimizedImage.amazon_linux2023(_HARDWARE[processor]),
        require_imdsv2=True,
        http_put_response_hop_limit=1,
        user_data=ec2.UserData.for_linux(),
        role=iam.Role(scope, f"{name}MachineRole", assumed_by=iam.ServicePrincipal("ec2.amazonaws.com")),
        security_group=ec2.SecurityGroup(scope, f"{name}MachineGroup", vpc=network.vpc, allow_all_outbound=True),
        spot_options=ec2.LaunchTemplateSpotOptions(request_type=ec2.SpotRequestType.ONE_TIME) if spot else None,
        detailed_monitoring=True,
        block_devices=[
            ec2.BlockDevice(
                device_name="/dev/xvda",
                volume=ec2.BlockDeviceVolume.ebs(_DISK_GB, encrypted=True, volume_type=ec2.EbsDeviceVolumeType.GP3),
            )
        ],
    )
    group = autoscaling.AutoScalingGroup(
        scope,
        f"{name}Machines",
        vpc=network.vpc,
        vpc_subnets=network.private,
        launch_template=template,
        min_capacity=floor,
        max_capacity=ceiling,
        group_metrics=[autoscaling.GroupMetrics.all()],
        default_instance_warmup=Duration.seconds(30),
        new_instances_protected_from_scale_in=True,
    )
    provider = ecs.AsgCapacityProvider(
        scope,
        f"{name}Provider",
        auto_scaling_group=group,
        enable_managed_scaling=True,
        enable_managed_termination_protection=True,
        enable_managed_draining=True,
        target_capacity_percent=90 if floor else 100,
        instance_warmup_period=30,
    )
    cluster.add_asg_capacity_provider(provider)
    return provider
