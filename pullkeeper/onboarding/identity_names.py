"""The names of a cluster's managed identity in Azure."""

from typing import Final

from pullkeeper.model import ClusterId

GUIDE_IDENTITY: Final = "deepintshield-pull-identity"


def own_identity(cluster: ClusterId) -> str:
    """The name of a cluster's own identity: 91 characters at most, and Azure allows 128."""
    return f"{GUIDE_IDENTITY}-{cluster.name}"


def list_identity_names(cluster: ClusterId, requested: str | None) -> tuple[str, ...]:
    """Return the names of the identities that may trust the cluster's service accounts."""
    return (requested,) if requested else (GUIDE_IDENTITY, own_identity(cluster))
