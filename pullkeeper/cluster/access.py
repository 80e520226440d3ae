"""Access to a cluster's API server: its address, and the token or certificate that it accepts."""

from pullkeeper.azure.clusters import AzureClusters, ClusterFacts
from pullkeeper.azure.entra import AKS, Entra, claims
from pullkeeper.cluster.api import Api
from pullkeeper.errors import EntraError
from pullkeeper.model import ClusterId, Endpoint
from pullkeeper.tokens import ClientCertificate


class Access:
    """Opens API servers. Client certificates (of clusters with local accounts) are kept in memory only."""

    def __init__(
        self, entra: Entra, clusters: AzureClusters, certificates: dict[ClusterId, ClientCertificate] | None = None
    ) -> None:
        """entra, clusters: those of the identity that calls the API servers. certificates: to share with another access
        under the same identity.
        """
        self._entra = entra
        self._clusters = clusters
        self._certificates = {} if certificates is None else certificates

    async def locate(self, cluster: ClusterId, facts: ClusterFacts | None = None) -> Endpoint:
        """Read the cluster's address from Azure Resource Manager. facts: if the cluster has been read already. Raises
        ClusterGone, ClusterStopped or ArmError.
        """
        located = await self._clusters.locate(cluster, facts)
        if located.certificate:
            self._certificates[cluster] = located.certificate
        return located.endpoint

    async def open(self, cluster: ClusterId, endpoint: Endpoint, *, dry: bool = False) -> Api:
        """Create a client for the API server at this endpoint. dry: its writes change nothing.

        Raises EntraError, and as `locate` does.
        """
        if endpoint.local_accounts and cluster not in self._certificates:
            endpoint = await self.locate(cluster)
        # Not the parameter: the cluster may have got its Entra integration meanwhile.
        credential = self._certificates[cluster] if endpoint.local_accounts else await self._entra.token(AKS)
        return Api(endpoint, credential, dry=dry)

    async def principal(self) -> str:
        """The object id of the app's identity, for messages; `<object id>` if Entra gives no token."""
        try:
            return claims(await self._entra.token(AKS)).get("oid", "<object id>")
        except EntraError:
            return "<object id>"
