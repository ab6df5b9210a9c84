"""`python -m infra.aws.app`: synthesise every environment into cdk.out; `cdk deploy` runs it too (see cdk.json)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from aws_cdk import App, Validations
from cdk_nag import AwsSolutionsChecks

from infra.aws.environments import ENVIRONMENTS, Environment
from infra.aws.exceptions import acknowledge
from infra.aws.stack import EvergreenStack

_FLAGS: Final = {
    "@aws-cdk/aws-s3:serverAccessLogsUseBucketPolicy": True,
    "@aws-cdk/aws-iam:minimizePolicies": True,
    "@aws-cdk/aws-ecs:removeDefaultDeploymentAlarm": True,
    "@aws-cdk/core:explicitStackTags": True,
    "aws:cdk:enable-path-metadata": False,
    "aws:cdk:disable-version-reporting": True,
}


def build_app(environments: Sequence[Environment] = ENVIRONMENTS, *, into: Path | None = None) -> App:
    """The app with a stack an environment, cdk-nag's AWS Solutions rules on it, and the exceptions with their reasons.

    Args:
        environments: which.
        into: folder of the synthesised templates; None takes cdk.out, or what the cdk command says.
    """
    app = App(outdir=str(into) if into else None, analytics_reporting=False, context=_FLAGS)
    for environment in environments:
        acknowledge(EvergreenStack(app, environment), lasting=environment.keep_data)
    Validations.of(app).add_plugins(AwsSolutionsChecks(app))
    return app


if __name__ == "__main__":
    build_app().synth()
