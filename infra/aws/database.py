"""RDS PostgreSQL: one instance with a database for Prefect and one for MLflow, which their tasks create."""

from aws_cdk import Duration, RemovalPolicy
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_rds as rds
from constructs import Construct

from infra.aws.network import Network


def build_database(
    scope: Construct,
    *,
    network: Network,
    environment: str,
    instance_type: str,
    storage_gb: int,
    backup_days: int,
    several_zones: bool,
    keep_data: bool,
) -> rds.DatabaseInstance:
    """Create an encrypted instance in the isolated subnets. Storage can grow to four times `storage_gb`."""
    return rds.DatabaseInstance(
        scope,
        "Database",
        engine=rds.DatabaseInstanceEngine.postgres(version=rds.PostgresEngineVersion.VER_17_6),
        instance_type=ec2.InstanceType(instance_type),
        vpc=network.vpc,
        vpc_subnets=network.private,
        credentials=rds.Credentials.from_generated_secret(
            "evergreen",
            secret_name=f"evergreen/{environment}/database",
            exclude_characters=" %+~`#$&*()|[]{}:;<>?!'/@\"\\,^=.-_",
        ),
        allocated_storage=storage_gb,
        max_allocated_storage=4 * storage_gb,
        storage_type=rds.StorageType.GP3,
        storage_encrypted=True,
        multi_az=several_zones,
        backup_retention=Duration.days(backup_days),
        delete_automated_backups=not keep_data,
        deletion_protection=keep_data,
        removal_policy=RemovalPolicy.SNAPSHOT if keep_data else RemovalPolicy.DESTROY,
        auto_minor_version_upgrade=True,
        copy_tags_to_snapshot=True,
        cloudwatch_logs_exports=["postgresql"],
        parameters={"rds.force_ssl": "1"},
        publicly_accessible=False,
    )
