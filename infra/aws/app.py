"""The AWS app: one stack per environment. `python -m infra.aws.app` writes templates into cdk.out (cdk.json)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from aws_cdk import App, CfnOutput, Stack, Tags, Validations
from cdk_nag import AwsSolutionsChecks
from constructs import Construct

from infra.aws.containers import Images
from infra.aws.credentials import build_credentials
from infra.aws.database import build_database
from infra.aws.ecs_cluster import build_cluster
from infra.aws.environments import ENVIRONMENTS, Environment
from infra.aws.exceptions import acknowledge
from infra.aws.network import build_network
from infra.aws.platform_services import build_internal_balancer, build_platform, flow_environment, flow_role
from infra.aws.ray import build_ray
from infra.aws.routers import build_routers
from infra.aws.storage import CHECKPOINTS, FORGET_FOLDERS, SIGNS, build_storage
from infra.aws.training_queue import build_training
from infra.aws.watch import build_watch

_FLAGS: Final = {
    "@aws-cdk/aws-s3:serverAccessLogsUseBucketPolicy": True,
    "@aws-cdk/aws-iam:minimizePolicies": True,
    "@aws-cdk/aws-ecs:removeDefaultDeploymentAlarm": True,
    "@aws-cdk/core:explicitStackTags": True,
    "aws:cdk:enable-path-metadata": False,
    "aws:cdk:disable-version-reporting": True,
}


class EvergreenStack(Stack):  # type: ignore[misc]  # jsii classes are untyped here
    """One environment, in any account and region."""

    def __init__(self, scope: Construct, settings: Environment, **options: Any) -> None:
        super().__init__(scope, f"evergreen-{settings.name}", description=f"Evergreen, {settings.name}", **options)
        Tags.of(self).add("evergreen", settings.name)
        images = Images(scope=self)
        network = build_network(self, several_zones=settings.several_zones)
        storage = build_storage(self, keep_data=settings.keep_data, log_days=settings.log_days)
        credentials = build_credentials(self, environment=settings.name, keep_data=settings.keep_data)
        database = build_database(
            self,
            network=network,
            environment=settings.name,
            instance_type=settings.database_type,
            storage_gb=settings.database_gb,
            backup_days=settings.backup_days,
            several_zones=settings.several_zones,
            keep_data=settings.keep_data,
        )
        cluster = build_cluster(self, network=network)
        internal = build_internal_balancer(self, network=network, storage=storage)
        environment = flow_environment(self, storage=storage, internal=internal)
        training = build_training(
            self,
            settings=settings,
            network=network,
            images=images,
            role=flow_role(
                self, "TrainingRole", storage=storage, description="A training: the lake", delete=CHECKPOINTS
            ),
            environment=environment,
        )
        worker_role = flow_role(
            self,
            "WorkerRole",
            storage=storage,
            description="Flows: the lake and Batch",
            delete=(*FORGET_FOLDERS, *SIGNS),
        )
        training.grant_start(worker_role)
        build_platform(
            self,
            settings=settings,
            network=network,
            cluster=cluster,
            images=images,
            storage=storage,
            database=database,
            internal=internal,
            worker_role=worker_role,
            worker_environment={**environment, **training.environment(settings)},
            worker_secrets=credentials.of_units(),
        )
        build_ray(
            self,
            settings=settings,
            network=network,
            cluster=cluster,
            images=images,
            role=flow_role(self, "RayRole", storage=storage, description="Batch inference: the lake"),
            environment=environment,
            secrets=credentials.of_units(),
        )
        routers = build_routers(
            self,
            settings=settings,
            network=network,
            cluster=cluster,
            images=images,
            storage=storage,
            credentials=credentials,
        )
        topic = build_watch(self, settings=settings, routers=routers, database=database)
        CfnOutput(self, "ApiAddress", value=routers.balancer.load_balancer_dns_name, description="The API")
        CfnOutput(
            self, "InternalAddress", value=internal.balancer.load_balancer_dns_name, description="UIs, in the network"
        )
        CfnOutput(self, "LakeUri", value=storage.lake_uri, description="EVERGREEN_LAKE")
        CfnOutput(self, "AlarmTopicArn", value=topic.topic_arn, description="Subscribe to get the alarms")


def build_cdk_app(environments: Sequence[Environment] = ENVIRONMENTS, *, into: Path | None = None) -> App:
    """Build the app: one stack per environment, cdk-nag's AWS Solutions rules, the exceptions with their reasons.

    Args:
        environments: environments to build.
        into: folder of the synthesised templates; None: cdk.out, or the folder of the cdk command.
    """
    app = App(outdir=str(into) if into else None, analytics_reporting=False, context=_FLAGS)
    for environment in environments:
        acknowledge(EvergreenStack(app, environment), lasting=environment.keep_data)
    Validations.of(app).add_plugins(AwsSolutionsChecks(app))
    return app


if __name__ == "__main__":
    build_cdk_app().synth()
