"""Operation on one host: backup and restore of a home, systemd units, restart of parts, health of the router."""
