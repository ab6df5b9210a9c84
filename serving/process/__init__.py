"""Processes of a replica: the parent, its workers, and the packages that they load."""
