"""Capacity and cost of a fleet of routers."""
