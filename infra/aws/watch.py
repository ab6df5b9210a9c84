"""Alarms, budget and dashboard. Own metrics come from the logs, in embedded metric format."""

from typing import Final

from aws_cdk import Duration, Stack
from aws_cdk import aws_budgets as budgets
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_iam as iam
from aws_cdk import aws_rds as rds
from aws_cdk import aws_sns as sns
from constructs import Construct

from infra.aws.environments import Environment
from infra.aws.routers import METRICS, Routers

_MINUTE: Final = Duration.minutes(1)
_LOG_LAG_ALARM_S: Final = 120
_LAKE_AGE_ALARM_S: Final = 60
_LITTLE_DISK: Final = 5 * 1024**3


def _ours(name: str, service: str, statistic: str, period: Duration = _MINUTE) -> cloudwatch.Metric:
    return cloudwatch.Metric(
        namespace=METRICS,
        metric_name=name,
        dimensions_map={"Service": service},
        statistic=statistic,
        period=period,
    )


def build_watch(
    scope: Construct, *, settings: Environment, routers: Routers, database: rds.DatabaseInstance
) -> sns.Topic:
    """Create alarms, dashboard and budget; return the topic that they notify."""
    topic = sns.Topic(scope, "Alarms", topic_name=f"evergreen-{settings.name}-alarms", enforce_ssl=True)
    for service in ("cloudwatch", "budgets"):  # this policy replaces SNS's default one
        topic.add_to_resource_policy(
            iam.PolicyStatement(
                actions=["sns:Publish"],
                principals=[iam.ServicePrincipal(f"{service}.amazonaws.com")],
                resources=[topic.topic_arn],
                conditions={"StringEquals": {"aws:SourceAccount": Stack.of(scope).account}},
            )
        )
    window = Duration.seconds(settings.window_s)
    p99 = routers.targets.metrics.target_response_time(statistic="p99", period=_MINUTE)
    requests = _ours("Requests", "router", "Sum")
    shed = _ours("Shed", "router", "Sum")
    shed_share = cloudwatch.MathExpression(
        expression="IF(requests > 0, shed / requests, 0)",
        using_metrics={"requests": requests, "shed": shed},
        label="share of requests answered 429",
        period=_MINUTE,
    )
    log_lag = _ours("LogLag", "router", "Maximum")
    lake_age = _ours("LakeAge", "router", "Maximum")
    stale = _ours("Stale", "monitor", "Maximum", window)
    judged = _ours("Stale", "monitor", "SampleCount", window)
    missed = _ours("DeadlineMissed", "training", "Sum", Duration.minutes(5))
    failed = _ours("Failed", "training", "Sum", Duration.minutes(5))
    disk = database.metric_free_storage_space(period=Duration.minutes(5))

    def alarm(
        name: str,
        metric: cloudwatch.IMetric,
        above: float,
        periods: int,
        sentence: str,
        *,
        below: bool = False,
        silence: cloudwatch.TreatMissingData = cloudwatch.TreatMissingData.NOT_BREACHING,
    ) -> None:
        made = cloudwatch.Alarm(
            scope,
            name,
            alarm_name=f"evergreen-{settings.name}-{name}",
            alarm_description=f"{sentence} See docs/runbook.md.",
            metric=metric,
            threshold=above,
            evaluation_periods=periods,
            comparison_operator=(
                cloudwatch.ComparisonOperator.LESS_THAN_THRESHOLD
                if below
                else cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD
            ),
            treat_missing_data=silence,
        )
        made.add_alarm_action(actions.SnsAction(topic))

    alarm("P99", p99, settings.p99_alarm_ms / 1000, 3, "The p99 of answers is above its limit.")
    alarm("Shed", shed_share, settings.shed_alarm_share, 3, "Too many requests are refused for lack of capacity.")
    alarm("LogLag", log_lag, _LOG_LAG_ALARM_S, 3, "Routers have not shipped their logs to the lake for too long.")
    alarm("LakeAge", lake_age, _LAKE_AGE_ALARM_S, 3, "Routers cannot read the ledger; they serve the last good plan.")
    alarm("Stale", stale, 0, 3, "The model has been stale for three windows and was not replaced.")
    breaching = cloudwatch.TreatMissingData.BREACHING
    alarm("NotJudged", judged, 1, 2, "The monitor has judged no window.", below=True, silence=breaching)
    alarm("DeadlineMissed", missed, 0, 1, "A training did not end within its budget; no version was registered.")
    alarm("TrainingFailed", failed, 0, 1, "A training failed.")
    alarm("DatabaseDisk", disk, _LITTLE_DISK, 1, "The database's disk is nearly full.", below=True)
    dashboard = cloudwatch.Dashboard(scope, "Dashboard", dashboard_name=f"evergreen-{settings.name}")
    dashboard.add_widgets(
        cloudwatch.GraphWidget(title="Requests and refusals", left=[requests, shed], right=[shed_share], width=12),
        cloudwatch.GraphWidget(
            title="Latency, seconds",
            left=[
                routers.targets.metrics.target_response_time(statistic=each, period=_MINUTE) for each in ("p50", "p99")
            ],
            width=12,
        ),
    )
    dashboard.add_widgets(
        cloudwatch.GraphWidget(title="Log lag and age of the ledger, seconds", left=[log_lag, lake_age], width=12),
        cloudwatch.GraphWidget(title="Stale windows and trainings", left=[stale, missed, failed], width=12),
    )
    _build_budget(scope, settings=settings, topic=topic)
    return topic


def _build_budget(scope: Construct, *, settings: Environment, topic: sns.Topic) -> None:
    def told(share: int, kind: str) -> budgets.CfnBudget.NotificationWithSubscribersProperty:
        return budgets.CfnBudget.NotificationWithSubscribersProperty(
            notification=budgets.CfnBudget.NotificationProperty(
                comparison_operator="GREATER_THAN", notification_type=kind, threshold=share, threshold_type="PERCENTAGE"
            ),
            subscribers=[budgets.CfnBudget.SubscriberProperty(subscription_type="SNS", address=topic.topic_arn)],
        )

    budgets.CfnBudget(
        scope,
        "Budget",
        budget=budgets.CfnBudget.BudgetDataProperty(
            budget_name=f"evergreen-{settings.name}",
            budget_type="COST",
            time_unit="MONTHLY",
            budget_limit=budgets.CfnBudget.SpendProperty(amount=settings.budget_usd, unit="USD"),
            cost_filters={"TagKeyValue": [f"user:evergreen${settings.name}"]},
        ),
        notifications_with_subscribers=[told(80, "ACTUAL"), told(100, "FORECASTED")],
    )
