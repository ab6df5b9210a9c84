"""AWS app: `python -m infra.aws.app` synthesises every environment. One component per module."""
