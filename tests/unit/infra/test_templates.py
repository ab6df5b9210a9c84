"""Synthesised templates; cdk-nag has said yes when they are there at all."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from flows.training.aws_machine import job_limit_s
from tests.aws.synthesis import synthesised
from tests.aws.template import Template, allows, listed

pytestmark = pytest.mark.timeout(300)


def test_cfn_lint_finds_nothing_that_has_no_reason(cloud: Path) -> None:
    from infra.aws.exceptions import LINT_REASONS  # imports the CDK, which starts node

    ended = subprocess.run(
        [str(Path(sys.executable).parent / "cfn-lint"), "--format", "json", "--regions", "us-east-1", "eu-west-1", "-t"]
        + [str(path) for path in sorted(cloud.glob("*.template.json"))],
        capture_output=True,
        text=True,
        check=False,
    )
    found = [each for each in json.loads(ended.stdout) if each["Rule"]["Id"] not in LINT_REASONS]
    assert found == []


def test_buckets_are_private_encrypted_and_tls_only(template: Template) -> None:
    for name, bucket in template.of("AWS::S3::Bucket").items():
        assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
        assert bucket["BucketEncryption"]
        policies = [p for p in template.of("AWS::S3::BucketPolicy").values() if p["Bucket"] == {"Ref": name}]
        assert "aws:SecureTransport" in json.dumps(policies)


def test_lake_and_artifacts_keep_old_versions(template: Template) -> None:
    kept = [b for b in template.of("AWS::S3::Bucket").values() if b.get("VersioningConfiguration")]
    assert len(kept) == 2
    for bucket in kept:
        rules = bucket["LifecycleConfiguration"]["Rules"]
        assert any("NoncurrentVersionExpiration" in rule for rule in rules)
        assert not any("ExpirationInDays" in rule or "ExpirationDate" in rule for rule in rules), "packages stay"


def test_mlflow_task_starts_with_quiet_page(template: Template) -> None:
    (task,) = [each for each in template.tasks() if each.name == "mlflow"]
    assert task.command[1:3] == ["-m", "flows.platform.mlflow_server"]
    assert task.environment["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_containers_are_unprivileged_with_read_only_image(template: Template) -> None:
    processes = [*template.tasks(), template.job()]
    assert len(processes) >= 9
    for each in processes:
        assert each.read_only, each.name
        assert each.user == "10001", each.name


def test_nothing_secret_stands_in_a_variable(template: Template) -> None:
    for each in [*template.tasks(), template.job()]:
        words = ("PASSWORD", "TOKEN", "SECRET", "KEY")
        assert not [name for name in each.environment if any(word in name for word in words)], each.name


def test_routers_differ_by_size_only(prod: Template) -> None:
    routers = [each for each in prod.tasks() if each.name == "router"]
    assert len(routers) == 3
    routers = [replace(each, execution_role=None) for each in routers]  # ECS pulls images with it, one a definition
    for each in routers:
        each.environment.pop("EVERGREEN_WORKERS")
        each.environment.pop("AWS_REGION", None)  # CDK adds it where it sees no Fargate
    assert len({json.dumps(vars(each), sort_keys=True) for each in routers}) == 1


def test_routers_run_on_fargate_and_both_ec2(prod: Template) -> None:
    tasks = prod.of("AWS::ECS::TaskDefinition").values()
    routers = [task for task in tasks if task["ContainerDefinitions"][0]["Name"] == "router"]
    assert sorted(task["RequiresCompatibilities"][0] for task in routers) == ["EC2", "EC2", "FARGATE"]
    images = {
        str(launch["LaunchTemplateData"]["ImageId"]): launch["LaunchTemplateData"]["InstanceType"]
        for launch in prod.of("AWS::EC2::LaunchTemplate").values()
        if "InstanceType" in launch["LaunchTemplateData"]
    }
    assert {"c8g.xlarge", "c7a.xlarge"} <= set(images.values())


def test_prod_has_warm_floor_and_ten_second_look(prod: Template) -> None:
    scalable = prod.of("AWS::ApplicationAutoScaling::ScalableTarget").values()
    assert sorted((each["MinCapacity"], each["MaxCapacity"]) for each in scalable) == [(0, 20), (0, 40), (2, 20)]
    alarms = [a for a in prod.of("AWS::CloudWatch::Alarm").values() if a.get("Period") == 10]
    assert sorted(each["MetricName"] for each in alarms) == ["Requests", "Shed", "Shed"]
    assert all(each["EvaluationPeriods"] == 1 for each in alarms)
    routers = [each for each in prod.tasks() if each.name == "router"]
    assert {each.environment["EVERGREEN_METRICS_INTERVAL_S"] for each in routers} == {"10"}


def test_deployment_keeps_size_of_scaling_fleet(template: Template) -> None:
    services = template.of("AWS::ECS::Service")
    targets = template.of("AWS::ApplicationAutoScaling::ScalableTarget").values()
    routers = [name for name in services if name.startswith("Router")]
    assert len(routers) == len(targets)
    for name in routers:
        assert "DesiredCount" not in services[name], name  # CloudFormation would put it back at every update
        assert any(name in json.dumps(each["ResourceId"]) for each in targets), name


def test_dev_has_no_router_at_night(cloud: Path) -> None:
    (target,) = Template(synthesised(cloud)["dev"]).of("AWS::ApplicationAutoScaling::ScalableTarget").values()
    sizes = [
        (each["Schedule"], each["ScalableTargetAction"]["MinCapacity"], each["ScalableTargetAction"]["MaxCapacity"])
        for each in target["ScheduledActions"]
    ]
    assert sizes == [("cron(0 6 ? * MON-FRI *)", 1, 2), ("cron(0 20 ? * * *)", 0, 0)]


def test_only_target_tracking_scales_fleet_in(prod: Template) -> None:
    down: dict[str, list[int]] = {}
    for policy in prod.of("AWS::ApplicationAutoScaling::ScalingPolicy").values():
        steps = policy.get("StepScalingPolicyConfiguration", {}).get("StepAdjustments", [])
        fleet = str(policy["ScalingTargetId"]["Ref"])
        down.setdefault(fleet, []).extend(step["ScalingAdjustment"] for step in steps if step["ScalingAdjustment"] < 0)
    assert sorted((fleet.startswith("RouterEc2Arm64"), steps) for fleet, steps in down.items()) == [
        (False, [-1]), (False, [-1]), (True, []),
    ]  # fmt: skip


def test_database_is_reachable_by_its_servers_only(template: Template) -> None:
    ((name, database),) = template.of("AWS::RDS::DBInstance").items()
    assert database["PubliclyAccessible"] is False
    assert database["StorageEncrypted"] is True
    assert name
    to_database = [
        rule
        for rule in template.of("AWS::EC2::SecurityGroupIngress").values()
        if "database" in str(rule.get("Description", "")) and "Database" in json.dumps(rule["GroupId"])
    ]
    assert len(to_database) == 2


def test_prod_keeps_data_and_two_database_zones(prod: Template) -> None:
    ((_, database),) = prod.of("AWS::RDS::DBInstance").items()
    assert database["MultiAZ"] is True
    assert database["DeletionProtection"] is True
    assert database["BackupRetentionPeriod"] >= 14
    for resource in prod.body["Resources"].values():
        if resource["Type"] == "AWS::S3::Bucket":
            assert resource["DeletionPolicy"] == "Retain"


def test_private_subnets_have_no_internet(template: Template) -> None:
    assert template.of("AWS::EC2::NatGateway") == {}
    services = [str(template.resolve(e["ServiceName"])) for e in template.of("AWS::EC2::VPCEndpoint").values()]
    for needed in ("s3", "ecr.api", "ecr.dkr", "logs", "secretsmanager", "batch", "ecs-agent"):
        assert any(name.endswith(f".{needed}") for name in services), needed


def test_training_scales_to_zero_with_spot_first(template: Template) -> None:
    environments = template.of("AWS::Batch::ComputeEnvironment")
    assert {e["ComputeResources"]["MinvCpus"] for e in environments.values()} == {0}
    worker = next(each for each in template.tasks() if each.name == "worker")
    queues = worker.environment["EVERGREEN_TRAINING_QUEUES"].split(",")
    order = []
    for queue in queues:
        properties = template.of("AWS::Batch::JobQueue")[queue]
        environment = properties["ComputeEnvironmentOrder"][0]["ComputeEnvironment"]["Fn::GetAtt"][0]
        order.append(environments[environment]["ComputeResources"]["Type"])
    assert order == ["SPOT", "EC2"]


def test_a_training_job_ends_soon_after_its_budget(template: Template) -> None:
    ((_, job),) = template.of("AWS::Batch::JobDefinition").items()
    budget_s = int(job["Parameters"]["budget_s"])
    assert budget_s == 900
    assert job["Timeout"]["AttemptDurationSeconds"] == job_limit_s(budget_s)  # as the worker submits it
    worker = next(each for each in template.tasks() if each.name == "worker")
    assert worker.environment["EVERGREEN_BUDGET_S"] == str(budget_s)
    kinds = {each["Type"]: each["Value"] for each in job["ContainerProperties"]["ResourceRequirements"]}
    assert kinds["GPU"] == "1"


def test_ray_stands_at_zero_on_spot(template: Template) -> None:
    services = [s for name, s in template.of("AWS::ECS::Service").items() if name.startswith("Ray")]
    assert [service["DesiredCount"] for service in services] == [0, 0]


def test_ray_has_an_image_of_its_own(template: Template) -> None:
    images: dict[str, set[str]] = {}
    for task in template.of("AWS::ECS::TaskDefinition").values():
        for container in task["ContainerDefinitions"]:
            images.setdefault(str(container["Image"]), set()).add(container["Name"])
    assert {"ray-head", "ray-node"} in images.values()


def test_each_task_has_own_limited_role(template: Template) -> None:
    named = {each.role for each in [*template.tasks(), template.job()]}
    assert len(named) >= 6
    for role in named - {None}:
        for statement in template.statements(str(role)):
            assert "*" not in listed(statement["Action"]), role
            assert not any(action.endswith(":*") for action in listed(statement["Action"])), role
            if listed(statement["Resource"]) == ["*"]:
                assert listed(statement["Action"]) == ["batch:DescribeJobs"], role  # it knows no resource


def test_artifacts_and_lake_have_separate_roles(template: Template) -> None:
    users: dict[str, set[str]] = {}
    for each in [*template.tasks(), template.job()]:
        for statement in template.statements(str(each.role)):
            for resource in listed(statement["Resource"]):
                users.setdefault(resource, set()).add(each.name)
    artifacts = {name for key, names in users.items() if key.startswith("arn:aws:s3:::artifacts") for name in names}
    lake = {name for key, names in users.items() if key.startswith("arn:aws:s3:::lake") for name in names}
    assert artifacts == {"mlflow", "mlflow-database"}
    assert lake == {"router", "worker", "training", "ray-head", "ray-node"}


def test_routers_and_worker_share_unit_secret(template: Template) -> None:
    named = {each.name: each.secrets.get("EVERGREEN_SECRET") for each in template.tasks()}
    assert named["router"] is not None
    assert named["worker"] == named["ray-head"] == named["router"]


DELETED = ("predictions", "feedback", "snapshots", "tokens", "monitoring", "batch", "flow_runs")


def test_worker_alone_deletes_and_never_records(template: Template) -> None:
    worker = next(each for each in template.tasks() if each.name == "worker")
    lake = worker.environment["EVERGREEN_LAKE"].replace("s3://", "arn:aws:s3:::")
    for each in [*template.tasks(), template.job()]:
        statements = template.statements(str(each.role))
        for folder in (*DELETED, "ledger", "verdicts", "attempts"):
            mine = each.name == "worker" and folder in DELETED
            assert allows(statements, "s3:DeleteObject", f"{lake}/{folder}/key") is mine, (each.name, folder)
        assert not allows(statements, "s3:DeleteObjectVersion", f"{lake}/predictions/key"), each.name


def test_alarms_cover_what_an_operator_must_hear_of(template: Template) -> None:
    alarms = {str(each["AlarmName"]).rpartition("-")[2]: each for each in template.of("AWS::CloudWatch::Alarm").values()
              if "AlarmName" in each}  # fmt: skip
    assert {"P99", "Shed", "Stale", "NotJudged", "DeadlineMissed", "LogLag", "LakeAge"} <= set(alarms)
    assert all(each["AlarmActions"] for each in alarms.values())
    assert alarms["NotJudged"]["TreatMissingData"] == "breaching"
    ((_, budget),) = template.of("AWS::Budgets::Budget").items()
    assert len(budget["NotificationsWithSubscribers"]) == 2
    assert len(template.of("AWS::CloudWatch::Dashboard")) == 1


def test_alarms_and_budget_may_publish_to_topic(template: Template) -> None:
    ((topic, _),) = template.of("AWS::SNS::Topic").items()
    named = [each["AlarmActions"] for each in template.of("AWS::CloudWatch::Alarm").values() if "AlarmName" in each]
    assert all(actions == [{"Ref": topic}] for actions in named)
    ((_, policy),) = template.of("AWS::SNS::TopicPolicy").items()
    allowed = {
        service: each.get("Condition")
        for each in policy["PolicyDocument"]["Statement"]
        if each["Effect"] == "Allow" and each["Action"] == "sns:Publish" and each["Resource"] == {"Ref": topic}
        for service in listed(each["Principal"]["Service"])
    }
    ours = {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}
    assert allowed == {"cloudwatch.amazonaws.com": ours, "budgets.amazonaws.com": ours}


def test_prod_alone_has_firewall_limit_per_address(template: Template, prod: Template) -> None:
    rules = [rule for each in template.of("AWS::WAFv2::WebACL").values() for rule in each["Rules"]]
    kept = ["IP"] if template.body == prod.body else []
    assert [rule["Statement"]["RateBasedStatement"]["AggregateKeyType"] for rule in rules] == kept
    assert len(template.of("AWS::WAFv2::WebACLAssociation")) == len(kept)


def test_prod_speaks_https_alone(prod: Template) -> None:
    listeners = prod.of("AWS::ElasticLoadBalancingV2::Listener").values()
    public = [each for each in listeners if each["LoadBalancerArn"]["Ref"].startswith("Balancer")]
    assert sorted(each["Port"] for each in public) == [80, 443]
    redirect = next(each for each in public if each["Port"] == 80)
    assert redirect["DefaultActions"][0]["Type"] == "redirect"
