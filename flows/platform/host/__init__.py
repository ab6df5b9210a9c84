"""Operation on one host: backup and restore, systemd units, restart of parts, health of the router."""
