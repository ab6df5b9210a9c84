"""Prefect, MLflow and Evidently on Fargate behind an internal load balancer, and the worker that runs the flows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from aws_cdk import Duration
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_efs as efs
from aws_cdk import aws_elasticloadbalancingv2 as elb
from aws_cdk import aws_iam as iam
from aws_cdk import aws_rds as rds
from constructs import Construct

from infra.aws.containers import (
    HOME,
    USER,
    Images,
    add_container,
    add_volumes,
    common_environment,
    http_check,
    log_group,
)
from infra.aws.environments import Environment
from infra.aws.network import Network
from infra.aws.storage import Storage

PREFECT_PORT: Final = 4200
MLFLOW_PORT: Final = 5000
EVIDENTLY_PORT: Final = 8001
_PORTS: Final = {"prefect": PREFECT_PORT, "mlflow": MLFLOW_PORT, "evidently": EVIDENTLY_PORT}
_HEALTH: Final = {"prefect": "/api/health", "mlflow": "/health", "evidently": "/api/version"}
_ANY: Final = "0.0.0.0"  # noqa: S104  of the task's own network interface


@dataclass(frozen=True, kw_only=True)
class InternalBalancer:
    """Internal load balancer, with the addresses of the three UIs and APIs."""

    balancer: elb.ApplicationLoadBalancer

    def url(self, part: str) -> str:
        """Return the address of prefect, mlflow or evidently."""
        return f"http://{self.balancer.load_balancer_dns_name}:{_PORTS[part]}"

    def host(self, part: str) -> str:
        """Return the Host header of requests to a part."""
        return f"{self.balancer.load_balancer_dns_name}:{_PORTS[part]}"


def build_internal_balancer(scope: Construct, *, network: Network, storage: Storage) -> InternalBalancer:
    """Create a load balancer that is reachable only inside the network."""
    group = ec2.SecurityGroup(
        scope, "InternalGroup", vpc=network.vpc, description="The internal load balancer", allow_all_outbound=False
    )
    balancer = elb.ApplicationLoadBalancer(
        scope,
        "InternalBalancer",
        vpc=network.vpc,
        internet_facing=False,
        security_group=group,
        vpc_subnets=network.private,
        drop_invalid_header_fields=True,
    )
    for key, value in (
        ("access_logs.s3.enabled", "true"),
        ("access_logs.s3.bucket", storage.access_logs.bucket_name),
        ("access_logs.s3.prefix", "alb"),
    ):
        balancer.set_attribute(key, value)
    balancer.node.add_dependency(storage.access_logs.policy)
    for port in _PORTS.values():
        group.add_ingress_rule(ec2.Peer.ipv4(network.vpc.vpc_cidr_block), ec2.Port.tcp(port), "from the network")
    return InternalBalancer(balancer=balancer)


def flow_environment(scope: Construct, *, storage: Storage, internal: InternalBalancer) -> dict[str, str]:
    """Return the variables of processes that run flows: the worker and a training machine."""
    return {
        **common_environment(scope),
        "EVERGREEN_HOME": HOME,
        "EVERGREEN_LAKE": storage.lake_uri,
        "EVERGREEN_EVIDENTLY_URL": internal.url("evidently"),
        "EVERGREEN_METRICS": "emf",
        "MLFLOW_TRACKING_URI": internal.url("mlflow"),
        "PREFECT_API_URL": f"{internal.url('prefect')}/api",
    }


def flow_role(
    scope: Construct, name: str, *, storage: Storage, description: str, delete: Sequence[str] = ()
) -> iam.Role:
    """Create a role that may use the lake and delete in some of its folders. Artifacts go through MLflow."""
    role = iam.Role(scope, name, assumed_by=iam.ServicePrincipal("ecs-tasks.amazonaws.com"), description=description)
    storage.grant_lake(role, delete=delete)
    return role


def build_platform(
    scope: Construct,
    *,
    settings: Environment,
    network: Network,
    cluster: ecs.Cluster,
    images: Images,
    storage: Storage,
    database: rds.DatabaseInstance,
    internal: InternalBalancer,
    worker_role: iam.Role,
    worker_environment: Mapping[str, str],
    worker_secrets: Mapping[str, ecs.Secret],
) -> dict[str, ecs.FargateService]:
    """Create the four services, by name."""
    builder = _Builder(
        scope=scope, settings=settings, network=network, cluster=cluster, images=images, internal=internal
    )
    services = {
        "prefect": _prefect(builder, database=database),
        "mlflow": _mlflow(builder, database=database, storage=storage),
        "evidently": _evidently(builder),
        "worker": _worker(builder, role=worker_role, environment=worker_environment, secrets=worker_secrets),
    }
    for part in ("prefect", "mlflow"):
        database.connections.allow_default_port_from(services[part], f"{part}'s database")
    return services


@dataclass(frozen=True, kw_only=True)
class _Builder:
    """Properties that the services share."""

    scope: Construct
    settings: Environment
    network: Network
    cluster: ecs.Cluster
    images: Images
    internal: InternalBalancer

    def role(self, name: str, description: str) -> iam.Role:
        """Create a role without permissions."""
        return iam.Role(
            self.scope,
            f"{name.title()}Role",
            assumed_by=iam.ServicePrincipal("ecs-tasks.amazonaws.com"),
            description=description,
        )

    def logs(self, name: str) -> ecs.LogDriver:
        """Create the log of a service."""
        group = log_group(self.scope, name.title(), environment=self.settings.name, days=self.settings.log_days)
        return ecs.LogDriver.aws_logs(stream_prefix=name, log_group=group, mode=ecs.AwsLogDriverMode.NON_BLOCKING)

    def task(
        self, name: str, *, role: iam.Role, vcpu: float, memory_mb: int, home: ecs.EfsVolumeConfiguration | None = None
    ) -> ecs.FargateTaskDefinition:
        """Create a task definition with its volumes."""
        task = ecs.FargateTaskDefinition(
            self.scope,
            f"{name.title()}Task",
            cpu=round(vcpu * 1024),
            memory_limit_mib=memory_mb,
            task_role=role,
            runtime_platform=ecs.RuntimePlatform(
                cpu_architecture=ecs.CpuArchitecture.X86_64, operating_system_family=ecs.OperatingSystemFamily.LINUX
            ),
        )
        add_volumes(task, home=home)
        return task

    def service(self, name: str, task: ecs.FargateTaskDefinition) -> ecs.FargateService:
        """Create a service of one task. A deployment stops the old task first: two must not write one schedule."""
        service = ecs.FargateService(
            self.scope,
            f"{name.title()}Service",
            cluster=self.cluster,
            task_definition=task,
            desired_count=1,
            min_healthy_percent=0,
            max_healthy_percent=100,
            assign_public_ip=False,
            vpc_subnets=self.network.private,
            circuit_breaker=ecs.DeploymentCircuitBreaker(rollback=True),
            enable_ecs_managed_tags=True,
            propagate_tags=ecs.PropagatedTagSource.SERVICE,
            health_check_grace_period=Duration.minutes(5) if name in _PORTS else None,
        )
        if name in _PORTS:
            self._publish(name, service)
        return service

    def _publish(self, name: str, service: ecs.FargateService) -> None:
        port = _PORTS[name]
        listener = self.internal.balancer.add_listener(
            name.title(), port=port, protocol=elb.ApplicationProtocol.HTTP, open=False
        )
        listener.add_targets(
            name.title(),
            port=port,
            protocol=elb.ApplicationProtocol.HTTP,
            targets=[service.load_balancer_target(container_name=name, container_port=port)],
            health_check=elb.HealthCheck(path=_HEALTH[name], interval=Duration.seconds(15)),
            deregistration_delay=Duration.seconds(10),
        )


def _prepare_database(
    task: ecs.FargateTaskDefinition, name: str, builder: _Builder, database: rds.DatabaseInstance, logs: ecs.LogDriver
) -> ecs.ContainerDefinition:
    """Add a container that creates a database, or migrates its tables, before the server starts."""
    return add_container(
        task,
        f"{name}-database",
        image=builder.images.platform(),
        command=["python", "-m", "flows.platform.databases", name],
        environment={**common_environment(builder.scope), **_postgres(database)},
        secrets={"PGPASSWORD": _password(database)},
        log_driver=logs,
        ports={},
        essential=False,
    )


def _postgres(database: rds.DatabaseInstance) -> dict[str, str]:
    """Return the variables of libpq."""
    return {
        "PGHOST": database.db_instance_endpoint_address,
        "PGPORT": database.db_instance_endpoint_port,
        "PGUSER": "evergreen",
    }


def _password(database: rds.DatabaseInstance) -> ecs.Secret:
    assert database.secret is not None
    return ecs.Secret.from_secrets_manager(database.secret, "password")


def _prefect(builder: _Builder, *, database: rds.DatabaseInstance) -> ecs.FargateService:
    task = builder.task("prefect", role=builder.role("prefect", "Prefect server"), vcpu=0.5, memory_mb=2048)
    logs = builder.logs("prefect")
    ready = _prepare_database(task, "prefect", builder, database, logs)
    server = add_container(
        task,
        "prefect",
        image=builder.images.platform(),
        command=["prefect", "server", "start", "--host", _ANY, "--port", str(PREFECT_PORT)],
        environment={
            **common_environment(builder.scope),
            "PREFECT_HOME": f"{HOME}/prefect",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_DATABASE_DRIVER": "postgresql+asyncpg",
            "PREFECT_SERVER_DATABASE_HOST": database.db_instance_endpoint_address,
            "PREFECT_SERVER_DATABASE_PORT": database.db_instance_endpoint_port,
            "PREFECT_SERVER_DATABASE_USER": "evergreen",
            "PREFECT_SERVER_DATABASE_NAME": "prefect",
            "PREFECT_UI_API_URL": f"{builder.internal.url('prefect')}/api",
        },
        secrets={"PREFECT_SERVER_DATABASE_PASSWORD": _password(database)},
        log_driver=logs,
        ports={"http": PREFECT_PORT},
        health=http_check(PREFECT_PORT, _HEALTH["prefect"]),
    )
    server.add_container_dependencies(
        ecs.ContainerDependency(container=ready, condition=ecs.ContainerDependencyCondition.SUCCESS)
    )
    return builder.service("prefect", task)


def _mlflow(builder: _Builder, *, database: rds.DatabaseInstance, storage: Storage) -> ecs.FargateService:
    role = builder.role("mlflow", "MLflow: its artifacts")
    storage.grant_artifacts(role)
    task = builder.task("mlflow", role=role, vcpu=1, memory_mb=4096)
    logs = builder.logs("mlflow")
    ready = _prepare_database(task, "mlflow", builder, database, logs)
    server = add_container(
        task,
        "mlflow",
        image=builder.images.platform(),
        command=[
            *(
                "python",
                "-m",
                "flows.platform.mlflow_server",
                "--host",
                _ANY,
                "--port",
                str(MLFLOW_PORT),
                "--workers",
                "2",
            ),
            *("--backend-store-uri", "postgresql+psycopg2:///mlflow", "--artifacts-destination", storage.artifacts_uri),
        ],
        environment={
            **common_environment(builder.scope),
            **_postgres(database),
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ALLOWED_HOSTS": builder.internal.host("mlflow"),
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        },
        secrets={"PGPASSWORD": _password(database)},
        log_driver=logs,
        ports={"http": MLFLOW_PORT},
        health=http_check(MLFLOW_PORT, _HEALTH["mlflow"]),
    )
    server.add_container_dependencies(
        ecs.ContainerDependency(container=ready, condition=ecs.ContainerDependencyCondition.SUCCESS)
    )
    return builder.service("mlflow", task)


def _evidently(builder: _Builder) -> ecs.FargateService:
    role = builder.role("evidently", "Evidently: its file system")
    disk = efs.FileSystem(
        builder.scope,
        "Reports",
        vpc=builder.network.vpc,
        vpc_subnets=builder.network.private,
        encrypted=True,
        enable_automatic_backups=builder.settings.keep_data,
        lifecycle_policy=efs.LifecyclePolicy.AFTER_30_DAYS,
    )
    point = disk.add_access_point(
        "Workspace",
        path="/evidently",
        create_acl=efs.Acl(owner_uid=USER, owner_gid=USER, permissions="750"),
        posix_user=efs.PosixUser(uid=USER, gid=USER),
    )
    role.add_to_policy(
        iam.PolicyStatement(
            actions=["elasticfilesystem:ClientMount", "elasticfilesystem:ClientWrite"],
            resources=[disk.file_system_arn],
            conditions={"StringEquals": {"elasticfilesystem:AccessPointArn": point.access_point_arn}},
        )
    )
    volume = ecs.EfsVolumeConfiguration(
        file_system_id=disk.file_system_id,
        transit_encryption="ENABLED",
        authorization_config=ecs.AuthorizationConfig(access_point_id=point.access_point_id, iam="ENABLED"),
    )
    task = builder.task("evidently", role=role, vcpu=0.5, memory_mb=2048, home=volume)
    add_container(
        task,
        "evidently",
        image=builder.images.platform(),
        command=[
            *("evidently", "ui", "--workspace", f"{HOME}/workspace"),
            *("--host", _ANY, "--port", str(EVIDENTLY_PORT)),
        ],
        environment=common_environment(builder.scope),
        secrets={},
        log_driver=builder.logs("evidently"),
        ports={"http": EVIDENTLY_PORT},
        health=http_check(EVIDENTLY_PORT, _HEALTH["evidently"]),
    )
    service = builder.service("evidently", task)
    disk.connections.allow_default_port_from(service, "reports")
    return service


def _worker(
    builder: _Builder, *, role: iam.Role, environment: Mapping[str, str], secrets: Mapping[str, ecs.Secret]
) -> ecs.FargateService:
    task = builder.task("worker", role=role, vcpu=2, memory_mb=8192)
    add_container(
        task,
        "worker",
        image=builder.images.platform(),
        command=["python", "-m", "flows.deployments"],
        environment=environment,
        secrets=secrets,
        log_driver=builder.logs("worker"),
        ports={},
    )
    return builder.service("worker", task)
