"""Operation on one host: backup and restore of a home, systemd units, and a supervisor that keeps its parts running."""
