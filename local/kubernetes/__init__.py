"""A stand-in for Kubernetes API servers: many in one process, held to the real one by tests/contract."""

from local.kubernetes.server import ApiServer

__all__ = ["ApiServer"]
