"""Platform of flows and commands: settings, services, local processes, Prefect runs."""
