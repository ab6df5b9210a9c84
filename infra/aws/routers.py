"""Routers: a public load balancer, and one fleet per kind of machine behind it, scaled by requests."""

from dataclasses import dataclass
from typing import Final

from aws_cdk import CfnParameter, Duration
from aws_cdk import aws_applicationautoscaling as scaling
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_elasticloadbalancingv2 as elb
from aws_cdk import aws_iam as iam
from aws_cdk import aws_wafv2 as waf
from constructs import Construct

from infra.aws.containers import (
    HOME,
    Images,
    add_container,
    add_volumes,
    common_environment,
    http_check,
    log_group,
)
from infra.aws.credentials import Credentials
from infra.aws.ecs_cluster import add_capacity
from infra.aws.environments import CPU_OF, Environment, RouterFleet
from infra.aws.network import Network
from infra.aws.storage import Storage

PORT: Final = 8080
ADMIN_PORT: Final = 8081
METRICS: Final = "Evergreen"
_FINE_S: Final = 10  # interval of the routers' metrics and of step scaling
_STEPS: Final = ((1.25, 50), (1.67, 100), (3.33, 300))  # times the target of tracking, per cent more tasks
_REQUESTS_PER_ADDRESS: Final = 2_000_000  # in five minutes: stops a flood, but not a customer's burst


@dataclass(frozen=True, kw_only=True)
class Routers:
    """Properties of the routers that other components use."""

    balancer: elb.ApplicationLoadBalancer
    targets: elb.ApplicationTargetGroup
    services: tuple[ecs.BaseService, ...]
    group: ec2.SecurityGroup


def build_routers(
    scope: Construct,
    *,
    settings: Environment,
    network: Network,
    cluster: ecs.Cluster,
    images: Images,
    storage: Storage,
    credentials: Credentials,
) -> Routers:
    """Create the load balancer, and a task definition, a service and its scaling per fleet."""
    group = ec2.SecurityGroup(scope, "RouterGroup", vpc=network.vpc, description="Routers", allow_all_outbound=True)
    balancer, targets = _build_balancer(scope, settings=settings, network=network, storage=storage, group=group)
    role = iam.Role(
        scope,
        "RouterRole",
        assumed_by=iam.ServicePrincipal("ecs-tasks.amazonaws.com"),
        description="Routers: read ledger and packages, append plans, ship the log",
    )
    storage.grant_lake(role)
    logs = ecs.LogDriver.aws_logs(
        stream_prefix="router",
        log_group=log_group(scope, "Router", environment=settings.name, days=settings.log_days),
        mode=ecs.AwsLogDriverMode.NON_BLOCKING,
    )
    services = []
    for fleet in settings.fleets:
        task = _build_task(scope, fleet, role=role)
        add_container(
            task,
            "router",
            image=images.serving(fleet.processor),
            command=["python", "-m", "serving"],
            environment={
                **common_environment(scope),
                "EVERGREEN_HOME": HOME,
                "EVERGREEN_LAKE": storage.lake_uri,
                "EVERGREEN_ROUTER_HOST": "0.0.0.0",  # noqa: S104  of the task's own network interface
                "EVERGREEN_ROUTER_PORT": str(PORT),
                "EVERGREEN_ADMIN_PORT": str(ADMIN_PORT),
                "EVERGREEN_WORKERS": str(fleet.vcpu),
                "EVERGREEN_METRICS": "emf",
                "EVERGREEN_METRICS_INTERVAL_S": str(_FINE_S),
            },
            secrets={
                "EVERGREEN_ADMIN_TOKEN": ecs.Secret.from_secrets_manager(credentials.admin_token),
                **credentials.of_units(),
                "EVERGREEN_PREDICT_KEY": ecs.Secret.from_secrets_manager(credentials.predict_key),
                "EVERGREEN_FEEDBACK_KEYS": ecs.Secret.from_secrets_manager(credentials.feedback_keys),
            },
            log_driver=logs,
            ports={"http": PORT, "admin": ADMIN_PORT},
            health=http_check(PORT, "/healthz"),
            memory_mb=fleet.memory_mb if fleet.on_ec2 else None,
        )
        service = _build_service(scope, fleet, task=task, cluster=cluster, network=network, group=group)
        targets.add_target(service.load_balancer_target(container_name="router", container_port=PORT))
        _scale(service, fleet, targets=targets, requests_per_task=settings.requests_per_task)
        services.append(service)
    return Routers(balancer=balancer, targets=targets, services=tuple(services), group=group)


def _build_task(scope: Construct, fleet: RouterFleet, *, role: iam.Role) -> ecs.TaskDefinition:
    name = f"RouterTask{_name(fleet)}"
    if fleet.on_ec2:
        task: ecs.TaskDefinition = ecs.Ec2TaskDefinition(
            scope, name, network_mode=ecs.NetworkMode.AWS_VPC, task_role=role
        )
    else:
        task = ecs.FargateTaskDefinition(
            scope,
            name,
            cpu=fleet.vcpu * 1024,
            memory_limit_mib=fleet.memory_mb,
            task_role=role,
            runtime_platform=ecs.RuntimePlatform(
                cpu_architecture=ecs.CpuArchitecture.of(CPU_OF[fleet.processor]),
                operating_system_family=ecs.OperatingSystemFamily.LINUX,
            ),
        )
    add_volumes(task)
    return task


def _build_service(
    scope: Construct,
    fleet: RouterFleet,
    *,
    task: ecs.TaskDefinition,
    cluster: ecs.Cluster,
    network: Network,
    group: ec2.SecurityGroup,
) -> ecs.FargateService | ecs.Ec2Service:
    name = f"Router{_name(fleet)}"
    shared = {
        "cluster": cluster,
        "task_definition": task,
        "vpc_subnets": network.private,
        "security_groups": [group],
        "circuit_breaker": ecs.DeploymentCircuitBreaker(rollback=True),
        "min_healthy_percent": 100,
        "max_healthy_percent": 200,
        "enable_ecs_managed_tags": True,
        "propagate_tags": ecs.PropagatedTagSource.SERVICE,
    }
    if not fleet.on_ec2:
        return ecs.FargateService(scope, name, assign_public_ip=False, **shared)
    assert fleet.instance_type is not None
    provider = add_capacity(
        cluster,
        name,
        network=network,
        instance_type=fleet.instance_type,
        processor=fleet.processor,
        floor=fleet.floor,
        ceiling=fleet.ceiling + fleet.floor,  # a deployment runs old and new tasks together
    )
    return ecs.Ec2Service(
        scope,
        name,
        capacity_provider_strategies=[
            ecs.CapacityProviderStrategy(capacity_provider=provider.capacity_provider_name, weight=1)
        ],
        **shared,
    )


def _scale(
    service: ecs.FargateService | ecs.Ec2Service,
    fleet: RouterFleet,
    *,
    targets: elb.ApplicationTargetGroup,
    requests_per_task: int,
) -> None:
    """Scale a fleet: target tracking for slow changes, steps every ten seconds for a burst.

    A fleet with a floor of zero has no requests to track. Refusals start its tasks, and ten minutes without a refusal
    remove them. The service sets no count, because a deployment would restore it; a new service starts with one task.
    """
    count = service.auto_scale_task_count(min_capacity=fleet.floor, max_capacity=fleet.ceiling)
    for size in fleet.schedule:
        minute, hour, days = size.cron
        count.scale_on_schedule(
            size.name,
            schedule=scaling.Schedule.cron(minute=minute, hour=hour, week_day=days),
            min_capacity=size.floor,
            max_capacity=size.ceiling,
        )
    if fleet.floor:
        count.scale_on_request_count(
            "Requests",
            requests_per_target=requests_per_task,
            target_group=targets,
            scale_out_cooldown=Duration.seconds(15),
            scale_in_cooldown=Duration.minutes(5),
        )
        fine = requests_per_task * _FINE_S / 60
        bounds = [round(times * fine) for times, _ in _STEPS]
        count.scale_on_metric(
            "Burst",
            metric=_routers_say("Requests", "Average", Duration.seconds(_FINE_S)),  # one line per router: per task
            adjustment_type=scaling.AdjustmentType.PERCENT_CHANGE_IN_CAPACITY,
            min_adjustment_magnitude=1,
            scaling_steps=[
                scaling.ScalingInterval(lower=lower, upper=upper, change=change)
                for lower, upper, (_, change) in zip(bounds, [*bounds[1:], None], _STEPS, strict=True)
            ],
            cooldown=Duration.seconds(30),
            evaluation_periods=1,
        )
        return
    woken = [
        scaling.ScalingInterval(lower=1, upper=200, change=2),
        scaling.ScalingInterval(lower=200, upper=5_000, change=6),
        scaling.ScalingInterval(lower=5_000, change=12),
    ]
    count.scale_on_metric(
        "Shed",
        metric=_routers_say("Shed", "Sum", Duration.seconds(_FINE_S)),
        adjustment_type=scaling.AdjustmentType.CHANGE_IN_CAPACITY,
        scaling_steps=woken,
        cooldown=Duration.seconds(30),
        evaluation_periods=1,
    )
    count.scale_on_metric(
        "Calm",
        metric=_routers_say("Shed", "Sum", Duration.minutes(1)),
        adjustment_type=scaling.AdjustmentType.CHANGE_IN_CAPACITY,
        scaling_steps=[scaling.ScalingInterval(upper=0, change=-1), *woken[-1:]],
        cooldown=Duration.seconds(60),
        evaluation_periods=10,
    )


def _routers_say(name: str, statistic: str, period: Duration) -> cloudwatch.Metric:
    """Return a metric from the routers' logs."""
    return cloudwatch.Metric(
        namespace=METRICS, metric_name=name, dimensions_map={"Service": "router"}, statistic=statistic, period=period
    )


def _build_balancer(
    scope: Construct, *, settings: Environment, network: Network, storage: Storage, group: ec2.SecurityGroup
) -> tuple[elb.ApplicationLoadBalancer, elb.ApplicationTargetGroup]:
    public = ec2.SecurityGroup(
        scope, "PublicGroup", vpc=network.vpc, description="The public load balancer", allow_all_outbound=False
    )
    balancer = elb.ApplicationLoadBalancer(
        scope,
        "Balancer",
        vpc=network.vpc,
        internet_facing=True,
        security_group=public,
        vpc_subnets=ec2.SubnetSelection(subnet_type=ec2.SubnetType.PUBLIC),
        drop_invalid_header_fields=True,
        deletion_protection=settings.keep_data,
        idle_timeout=Duration.seconds(60),
    )
    for key, value in (
        ("access_logs.s3.enabled", "true"),
        ("access_logs.s3.bucket", storage.access_logs.bucket_name),
        ("access_logs.s3.prefix", "alb"),
    ):
        balancer.set_attribute(key, value)
    balancer.node.add_dependency(storage.access_logs.policy)
    path = CfnParameter(
        scope,
        "RouterHealthPath",
        default="/readyz",
        allowed_values=["/readyz", "/healthz"],
        description="/healthz for the first deployment, before there is a champion; /readyz afterwards",
    )
    targets = elb.ApplicationTargetGroup(
        scope,
        "RouterTargets",
        vpc=network.vpc,
        port=PORT,
        protocol=elb.ApplicationProtocol.HTTP,
        target_type=elb.TargetType.IP,
        load_balancing_algorithm_type=elb.TargetGroupLoadBalancingAlgorithmType.LEAST_OUTSTANDING_REQUESTS,
        deregistration_delay=Duration.seconds(20),
        health_check=elb.HealthCheck(
            path=path.value_as_string,
            interval=Duration.seconds(5),
            timeout=Duration.seconds(3),
            healthy_threshold_count=2,
            unhealthy_threshold_count=2,
        ),
    )
    if settings.https:
        certificate = CfnParameter(scope, "CertificateArn", description="ACM certificate of the public name")
        listener = balancer.add_listener(
            "Https",
            port=443,
            protocol=elb.ApplicationProtocol.HTTPS,
            certificates=[elb.ListenerCertificate.from_arn(certificate.value_as_string)],
            ssl_policy=elb.SslPolicy.RECOMMENDED_TLS,
            open=True,
        )
        balancer.add_redirect(source_port=80, target_port=443, open=True)
    else:
        listener = balancer.add_listener("Http", port=80, protocol=elb.ApplicationProtocol.HTTP, open=True)
    listener.add_target_groups("Routers", target_groups=[targets])
    public.connections.allow_to(group, ec2.Port.tcp(PORT), "requests and health checks")
    if settings.firewall:
        _build_firewall(scope, balancer)
    return balancer, targets


def _build_firewall(scope: Construct, balancer: elb.ApplicationLoadBalancer) -> None:
    """Limit the requests per address. The router itself refuses bad requests."""

    def seen(name: str) -> waf.CfnWebACL.VisibilityConfigProperty:
        return waf.CfnWebACL.VisibilityConfigProperty(
            cloud_watch_metrics_enabled=True, metric_name=name, sampled_requests_enabled=False
        )

    acl = waf.CfnWebACL(
        scope,
        "Firewall",
        scope="REGIONAL",
        default_action=waf.CfnWebACL.DefaultActionProperty(allow={}),
        visibility_config=seen("Firewall"),
        rules=[
            waf.CfnWebACL.RuleProperty(
                name="flood",
                priority=0,
                action=waf.CfnWebACL.RuleActionProperty(block={}),
                visibility_config=seen("Flood"),
                statement=waf.CfnWebACL.StatementProperty(
                    rate_based_statement=waf.CfnWebACL.RateBasedStatementProperty(
                        aggregate_key_type="IP", limit=_REQUESTS_PER_ADDRESS
                    )
                ),
            )
        ],
    )
    waf.CfnWebACLAssociation(
        scope, "FirewallOnBalancer", resource_arn=balancer.load_balancer_arn, web_acl_arn=acl.attr_arn
    )


def _name(fleet: RouterFleet) -> str:
    return "".join(part.title() for part in fleet.launch.split("-"))
