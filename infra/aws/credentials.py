"""Secrets of tasks, in Secrets Manager. Values are generated there and are in no template."""

from dataclasses import dataclass

from aws_cdk import RemovalPolicy, SecretValue
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """Secrets of routers and flows. The database's password is created with the database."""

    admin_token: secretsmanager.Secret
    unit_secret: secretsmanager.Secret
    predict_key: secretsmanager.Secret
    feedback_keys: secretsmanager.Secret

    def of_units(self) -> dict[str, ecs.Secret]:
        """Return the secret for hashing units, one for all writers and readers of hashes."""
        return {"EVERGREEN_SECRET": ecs.Secret.from_secrets_manager(self.unit_secret)}


def build_credentials(scope: Construct, *, environment: str, keep_data: bool) -> Credentials:
    """Create three random secrets, and the feedback keys: empty (`{}`) until the operator fills them."""
    removal = RemovalPolicy.RETAIN if keep_data else RemovalPolicy.DESTROY

    def made(name: str, description: str) -> secretsmanager.Secret:
        return secretsmanager.Secret(
            scope,
            "".join(part.title() for part in name.split("-")),
            secret_name=f"evergreen/{environment}/{name}",
            description=description,
            removal_policy=removal,
            generate_secret_string=secretsmanager.SecretStringGenerator(
                password_length=40, exclude_punctuation=True, include_space=False
            ),
        )

    return Credentials(
        admin_token=made("admin-token", "Token that may change the traffic plan over HTTP"),
        unit_secret=made("unit-secret", "Key for hashing unit ids; a new one breaks joins with older records"),
        predict_key=made("predict-key", "Key of callers of /v1/predict"),
        feedback_keys=secretsmanager.Secret(
            scope,
            "FeedbackKeys",
            secret_name=f"evergreen/{environment}/feedback-keys",
            description="JSON: source by key; empty: no feedback is accepted",
            removal_policy=removal,
            secret_string_value=SecretValue.unsafe_plain_text("{}"),
        ),
    )
