"""The cost model prices what the production template builds."""

from dataclasses import asdict
from typing import Any

import pytest

from infra.cost.month import Quantities
from infra.cost.setup import DEPLOYED
from tests.aws.template import Template

pytestmark = pytest.mark.timeout(300)


def test_model_counts_parts_of_prod(prod: Template) -> None:
    standing = _standing(prod)
    ((_, database),) = prod.of("AWS::RDS::DBInstance").items()
    endpoints = prod.of("AWS::EC2::VPCEndpoint").values()
    firewalls = prod.of("AWS::WAFv2::WebACL").values()
    built = {
        "floor": sum(each["MinCapacity"] for each in prod.of("AWS::ApplicationAutoScaling::ScalableTarget").values()),
        "services_vcpus": sum(int(each["Cpu"]) for each in standing) / 1024,
        "services_gb": sum(int(each["Memory"]) for each in standing) / 1024,
        "load_balancers": len(prod.of("AWS::ElasticLoadBalancingV2::LoadBalancer")),
        "firewalls": len(firewalls),
        "firewall_rules": sum(len(each["Rules"]) for each in firewalls),
        "endpoint_zones": sum(len(each.get("SubnetIds", [])) for each in endpoints),
        "database_gb": float(database["AllocatedStorage"]),
        "database_copies": 2 if database["MultiAZ"] else 1,
        "secrets": len(prod.of("AWS::SecretsManager::Secret")),
        "alarms": len(prod.of("AWS::CloudWatch::Alarm")),
        "dashboards": len(prod.of("AWS::CloudWatch::Dashboard")),
    }
    priced = asdict(Quantities())
    assert {name: priced[name] for name in built} == built


def test_the_model_prices_the_machines_that_prod_names(prod: Template) -> None:
    assert {each["RuntimePlatform"]["CpuArchitecture"] for each in _standing(prod)} == {"X86_64"}
    ((_, database),) = prod.of("AWS::RDS::DBInstance").items()
    assert database["DBInstanceClass"] == "db.t4g.medium"
    launches = prod.of("AWS::EC2::LaunchTemplate").items()
    first = [each["LaunchTemplateData"] for name, each in launches if name.startswith("RouterEc2Arm64")]
    assert [each["InstanceType"] for each in first] == [DEPLOYED]


def _standing(template: Template) -> list[dict[str, Any]]:
    """Task definitions of the services that always run one task."""
    tasks = template.of("AWS::ECS::TaskDefinition")
    services = template.of("AWS::ECS::Service").values()
    return [tasks[each["TaskDefinition"]["Ref"]] for each in services if each.get("DesiredCount") == 1]
