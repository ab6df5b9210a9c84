"""Network: public subnets for the load balancer only, isolated ones for all else, endpoints and no NAT."""

from dataclasses import dataclass
from typing import Final

from aws_cdk import aws_ec2 as ec2
from constructs import Construct

_INTERFACES: Final = {
    "EcrApi": ec2.InterfaceVpcEndpointAwsService.ECR,
    "EcrDocker": ec2.InterfaceVpcEndpointAwsService.ECR_DOCKER,
    "Logs": ec2.InterfaceVpcEndpointAwsService.CLOUDWATCH_LOGS,
    "Secrets": ec2.InterfaceVpcEndpointAwsService.SECRETS_MANAGER,
    "Ecs": ec2.InterfaceVpcEndpointAwsService.ECS,
    "EcsAgent": ec2.InterfaceVpcEndpointAwsService.ECS_AGENT,
    "EcsTelemetry": ec2.InterfaceVpcEndpointAwsService.ECS_TELEMETRY,
    "Batch": ec2.InterfaceVpcEndpointAwsService.BATCH,
}


@dataclass(frozen=True, kw_only=True)
class Network:
    """Network of the components. `private` subnets have no route to or from the internet."""

    vpc: ec2.Vpc
    private: ec2.SubnetSelection
    one_private: ec2.SubnetSelection


def build_network(scope: Construct, *, several_zones: bool) -> Network:
    """Create a network of two zones, as a load balancer requires. With `several_zones`, endpoints are in both."""
    vpc = ec2.Vpc(
        scope,
        "Vpc",
        max_azs=2,
        nat_gateways=0,
        restrict_default_security_group=False,
        subnet_configuration=[
            ec2.SubnetConfiguration(
                name="public", subnet_type=ec2.SubnetType.PUBLIC, cidr_mask=24, map_public_ip_on_launch=False
            ),
            ec2.SubnetConfiguration(name="private", subnet_type=ec2.SubnetType.PRIVATE_ISOLATED, cidr_mask=20),
        ],
        flow_logs={"All": ec2.FlowLogOptions(traffic_type=ec2.FlowLogTrafficType.REJECT)},
    )
    private = ec2.SubnetSelection(subnet_type=ec2.SubnetType.PRIVATE_ISOLATED)
    one_private = ec2.SubnetSelection(subnets=vpc.isolated_subnets[:1])
    vpc.add_gateway_endpoint("S3", service=ec2.GatewayVpcEndpointAwsService.S3, subnets=[private])
    for name, service in _INTERFACES.items():
        vpc.add_interface_endpoint(name, service=service, subnets=private if several_zones else one_private)
    return Network(vpc=vpc, private=private, one_private=one_private)
