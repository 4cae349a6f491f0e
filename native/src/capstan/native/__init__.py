"""Runs the whole stack on one machine, without containers: `make run`, `make ask`, `make smoke`."""
