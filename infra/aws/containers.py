"""Set-up of every container: non-root user, read-only root, writable volumes, logs, images from this repository."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from aws_cdk import Duration, RemovalPolicy, Stack
from aws_cdk import aws_ecr_assets as assets
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_logs as logs
from constructs import Construct

_ROOT: Final = Path(__file__).resolve().parents[2]
HOME: Final = "/var/evergreen"  # created in the images, owned by their user
USER: Final = "10001"
_TMP: Final = "/tmp"  # noqa: S108  of the container, a volume of its own

_RETENTION: Final = {
    7: logs.RetentionDays.ONE_WEEK,
    30: logs.RetentionDays.ONE_MONTH,
    90: logs.RetentionDays.THREE_MONTHS,
}
_PLATFORMS: Final = {"arm64": assets.Platform.LINUX_ARM64, "amd64": assets.Platform.LINUX_AMD64}


@dataclass(frozen=True, kw_only=True)
class Images:
    """Container images, built from this repository when the app is deployed."""

    scope: Construct
    _made: dict[tuple[str, str], assets.DockerImageAsset] = field(default_factory=dict)

    def _asset(self, name: str, processor: str, *, more: str = "") -> assets.DockerImageAsset:
        key = (f"{more}{name}", processor)
        if key not in self._made:
            self._made[key] = assets.DockerImageAsset(
                self.scope,
                f"{more.title()}{name.title()}Image{processor.title()}",
                directory=str(_ROOT),
                file=f"infra/images/{name}.Dockerfile",
                platform=_PLATFORMS[processor],
                build_args={"MORE": f"-r requirements-{more}.txt"} if more else None,
                exclude=["cdk.out"],
            )
        return self._made[key]

    def serving(self, processor: str) -> ecs.ContainerImage:
        """Return the router's image, without torch and MLflow."""
        return ecs.ContainerImage.from_docker_image_asset(self._asset("serving", processor))

    def platform(self) -> ecs.ContainerImage:
        """Return the image of training, flows, MLflow, Prefect and Evidently."""
        return ecs.ContainerImage.from_docker_image_asset(self._asset("platform", "amd64"))

    def ray(self) -> ecs.ContainerImage:
        """Return the platform's image with Ray."""
        return ecs.ContainerImage.from_docker_image_asset(self._asset("platform", "amd64", more="ray"))


def log_group(scope: Construct, name: str, *, environment: str, days: int) -> logs.LogGroup:
    """Create the log group of a service. CloudWatch reads metrics in it (embedded metric format)."""
    return logs.LogGroup(
        scope,
        f"{name}Logs",
        log_group_name=f"/evergreen/{environment}/{name.lower()}",
        retention=_RETENTION[days],
        removal_policy=RemovalPolicy.DESTROY,
    )


def common_environment(scope: Construct) -> dict[str, str]:
    """Return the environment variables of all containers. boto3 needs the region on ECS."""
    return {"AWS_DEFAULT_REGION": Stack.of(scope).region, "DO_NOT_TRACK": "1"}


def http_check(port: int, path: str) -> ecs.HealthCheck:
    """Return a health check in Python, because the images have no curl."""
    probe = f"import urllib.request as u; u.urlopen('http://127.0.0.1:{port}{path}', timeout=3)"
    return ecs.HealthCheck(
        command=["CMD", "python", "-c", probe],
        interval=Duration.seconds(15),
        timeout=Duration.seconds(5),
        retries=3,
        start_period=Duration.seconds(120),
    )


def add_container(
    task: ecs.TaskDefinition,
    name: str,
    *,
    image: ecs.ContainerImage,
    command: Sequence[str],
    environment: Mapping[str, str],
    secrets: Mapping[str, ecs.Secret],
    log_driver: ecs.LogDriver,
    ports: Mapping[str, int],
    health: ecs.HealthCheck | None = None,
    essential: bool = True,
    memory_mb: int | None = None,
) -> ecs.ContainerDefinition:
    """Add a container with a read-only root; /tmp and HOME are volumes of the task."""
    container = task.add_container(
        name,
        image=image,
        command=list(command),
        environment=dict(environment),
        secrets=dict(secrets),
        logging=log_driver,
        port_mappings=[ecs.PortMapping(container_port=port, name=name_) for name_, port in ports.items()],
        health_check=health,
        essential=essential,
        user=USER,
        readonly_root_filesystem=True,
        memory_limit_mib=memory_mb,
        stop_timeout=Duration.seconds(30),
        ulimits=[ecs.Ulimit(name=ecs.UlimitName.NOFILE, soft_limit=65_536, hard_limit=65_536)],
    )
    container.add_mount_points(
        ecs.MountPoint(container_path=_TMP, source_volume="tmp", read_only=False),
        ecs.MountPoint(container_path=HOME, source_volume="home", read_only=False),
    )
    return container


def add_volumes(task: ecs.TaskDefinition, *, home: ecs.EfsVolumeConfiguration | None = None) -> None:
    """Add the volumes that `add_container` mounts. They end with the task unless HOME is on a file system."""
    task.add_volume(name="tmp")
    task.add_volume(name="home", **({"efs_volume_configuration": home} if home else {}))
