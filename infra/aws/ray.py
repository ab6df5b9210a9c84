"""Ray on EC2 spot for large batches: a head and workers, at zero tasks until an operator raises them."""

from collections.abc import Mapping
from typing import Final

from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_iam as iam
from aws_cdk import aws_servicediscovery as discovery
from constructs import Construct

from infra.aws.containers import Images, add_container, add_volumes, log_group
from infra.aws.ecs_cluster import add_capacity
from infra.aws.environments import Environment
from infra.aws.network import Network

_TYPE: Final = "c7a.2xlarge"
_MEMORY_MB: Final = 14_000
_MACHINES: Final = 16
_GCS_PORT: Final = 6379
RAY_NAMESPACE: Final = "evergreen.internal"


def build_ray(
    scope: Construct,
    *,
    settings: Environment,
    network: Network,
    cluster: ecs.Cluster,
    images: Images,
    role: iam.Role,
    environment: Mapping[str, str],
    secrets: Mapping[str, ecs.Secret],
) -> tuple[ecs.Ec2Service, ecs.Ec2Service]:
    """Create head and workers as services with zero tasks, and so with zero machines."""
    provider = add_capacity(
        cluster,
        "Ray",
        network=network,
        instance_type=_TYPE,
        processor="amd64",
        floor=0,
        ceiling=_MACHINES,
        spot=True,
    )
    group = ec2.SecurityGroup(scope, "RayGroup", vpc=network.vpc, description="Ray nodes")
    group.add_ingress_rule(group, ec2.Port.all_tcp(), "Ray nodes among themselves")
    names = discovery.PrivateDnsNamespace(scope, "Names", name=RAY_NAMESPACE, vpc=network.vpc)
    logs = ecs.LogDriver.aws_logs(
        stream_prefix="ray", log_group=log_group(scope, "Ray", environment=settings.name, days=settings.log_days)
    )
    commands = {
        "head": ["ray", "start", "--head", f"--port={_GCS_PORT}", "--block", "--disable-usage-stats"],
        "node": ["ray", "start", f"--address=head.{RAY_NAMESPACE}:{_GCS_PORT}", "--block", "--disable-usage-stats"],
    }
    services = []
    for name, command in commands.items():
        task = ecs.Ec2TaskDefinition(
            scope, f"Ray{name.title()}Task", network_mode=ecs.NetworkMode.AWS_VPC, task_role=role
        )
        add_volumes(task)
        add_container(
            task,
            f"ray-{name}",
            image=images.ray(),
            command=command,
            environment=environment,
            secrets=secrets if name == "head" else {},  # a batch starts there and passes them on
            log_driver=logs,
            ports={},
            memory_mb=_MEMORY_MB,
        )
        service = ecs.Ec2Service(
            scope,
            f"Ray{name.title()}",
            cluster=cluster,
            task_definition=task,
            desired_count=0,
            min_healthy_percent=0,
            max_healthy_percent=100,
            vpc_subnets=network.private,
            security_groups=[group],
            capacity_provider_strategies=[
                ecs.CapacityProviderStrategy(capacity_provider=provider.capacity_provider_name, weight=1)
            ],
            cloud_map_options=(
                ecs.CloudMapOptions(name="head", cloud_map_namespace=names, dns_record_type=discovery.DnsRecordType.A)
                if name == "head"
                else None
            ),
        )
        services.append(service)
    return services[0], services[1]
