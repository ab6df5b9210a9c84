"""Processes of a replica: the parent, its workers, and the files of the versions they load."""
