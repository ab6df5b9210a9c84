"""S3 buckets: lake, MLflow's artifacts, access logs. Encrypted, with a lifecycle, TLS only."""

from collections.abc import Sequence
from dataclasses import dataclass

from aws_cdk import Duration, RemovalPolicy, Stack
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from constructs import Construct

SIGNS = ("flow_runs",)  # signs of life of runs; deleted when the run is finished
CHECKPOINTS = ("runs",)  # checkpoints of trainings; deleted when the training is done
FORGET_FOLDERS = (
    "predictions",
    "feedback",
    "snapshots",
    "tokens",
    "monitoring",
    "batch",
    "quarantine",
)  # folders that forgetting deletes rows from
_MULTIPART_DAYS = 7
_NONCURRENT_DAYS = 90
_PREDICTIONS_COLD_DAYS = 90


@dataclass(frozen=True, kw_only=True)
class Storage:
    """S3 buckets. Keys of the lake start with `lake/`, keys of artifacts with `mlflow/`."""

    lake: s3.Bucket
    artifacts: s3.Bucket
    access_logs: s3.Bucket

    @property
    def lake_uri(self) -> str:
        """URI for EVERGREEN_LAKE."""
        return f"s3://{self.lake.bucket_name}/lake"

    @property
    def artifacts_uri(self) -> str:
        """URI of MLflow's artifacts."""
        return f"s3://{self.artifacts.bucket_name}/mlflow"

    def grant_lake(self, role: iam.IGrantable, *, delete: Sequence[str] = ()) -> None:
        """Grant reading and writing below `lake/`, deleting below some of its folders, and listing."""
        _grant(role, self.lake, "lake", delete=[f"lake/{folder}" for folder in delete])

    def grant_artifacts(self, role: iam.IGrantable) -> None:
        """Grant reading and writing below `mlflow/`, and listing. No role may delete a version's files."""
        _grant(role, self.artifacts, "mlflow")


def build_storage(scope: Construct, *, keep_data: bool, log_days: int) -> Storage:
    """Create the three buckets. With `keep_data` they outlive the stack."""
    removal = RemovalPolicy.RETAIN if keep_data else RemovalPolicy.DESTROY
    access_logs = s3.Bucket(
        scope,
        "AccessLogs",
        encryption=s3.BucketEncryption.S3_MANAGED,
        block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
        enforce_ssl=True,
        removal_policy=removal,
        object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
        lifecycle_rules=[s3.LifecycleRule(expiration=Duration.days(log_days))],
    )
    access_logs.add_to_resource_policy(
        iam.PolicyStatement(
            actions=["s3:PutObject"],
            principals=[iam.ServicePrincipal("logdelivery.elasticloadbalancing.amazonaws.com")],
            resources=[access_logs.arn_for_objects(f"alb/AWSLogs/{Stack.of(scope).account}/*")],
        )
    )
    old = s3.LifecycleRule(
        id="old-versions",
        noncurrent_version_expiration=Duration.days(_NONCURRENT_DAYS),
        abort_incomplete_multipart_upload_after=Duration.days(_MULTIPART_DAYS),
    )
    cold = [
        s3.LifecycleRule(
            id=f"cold-{stream}",
            prefix=f"lake/{stream}/",
            transitions=[
                s3.Transition(
                    storage_class=s3.StorageClass.INFREQUENT_ACCESS,
                    transition_after=Duration.days(_PREDICTIONS_COLD_DAYS),
                )
            ],
        )
        for stream in ("predictions", "snapshots", "batch")
    ]
    buckets = []
    for name, rules in (("Lake", [old, *cold]), ("Artifacts", [old])):
        bucket = s3.Bucket(
            scope,
            name,
            versioned=True,
            encryption=s3.BucketEncryption.S3_MANAGED,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            enforce_ssl=True,
            removal_policy=removal,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            server_access_logs_bucket=access_logs,
            server_access_logs_prefix=f"s3/{name.lower()}/",
            lifecycle_rules=rules,
        )
        buckets.append(bucket)
    return Storage(lake=buckets[0], artifacts=buckets[1], access_logs=access_logs)


def _grant(role: iam.IGrantable, bucket: s3.Bucket, prefix: str, *, delete: Sequence[str] = ()) -> None:
    principal = role.grant_principal
    for actions, folders in ((["s3:GetObject", "s3:PutObject"], [prefix]), (["s3:DeleteObject"], delete)):
        if folders:
            keys = [bucket.arn_for_objects(f"{folder}/*") for folder in folders]
            principal.add_to_principal_policy(iam.PolicyStatement(actions=actions, resources=keys))
    principal.add_to_principal_policy(
        iam.PolicyStatement(
            actions=["s3:ListBucket"],
            resources=[bucket.bucket_arn],  # with a condition on the prefix, S3 answers 403 for a missing key, not 404
        )
    )
