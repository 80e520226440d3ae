"""Opens a cluster's API server: its address from the fleet, the token or certificate that it accepts."""

from pullkeeper.azure.clusters import AzureClusters
from pullkeeper.azure.entra import AKS, Entra, claims
from pullkeeper.cluster.api import Api
from pullkeeper.errors import EntraError
from pullkeeper.model import ClusterId, Endpoint
from pullkeeper.tokens import ClientCertificate


class Access:
    """Keeps client certificates of clusters with local accounts in memory, and nowhere else."""

    def __init__(self, entra: Entra, clusters: AzureClusters) -> None:
        """entra, clusters: of the identity under which clusters are opened."""
        self._entra = entra
        self._clusters = clusters
        self._certificates: dict[ClusterId, ClientCertificate] = {}

    async def locate(self, cluster: ClusterId) -> Endpoint:
        """Ask Azure Resource Manager where the cluster is now. Raises ClusterGone, ClusterStopped or ArmError."""
        located = await self._clusters.locate(cluster)
        if located.certificate:
            self._certificates[cluster] = located.certificate
        return located.endpoint

    async def open(self, cluster: ClusterId, endpoint: Endpoint, *, dry: bool = False) -> Api:
        """A client for the API server at this endpoint. dry: whose writes change nothing. Raises EntraError, or as
        `locate` does.
        """
        if endpoint.local_accounts and cluster not in self._certificates:
            endpoint = await self.locate(cluster)
        # Azure may just have said that the cluster has got its Entra integration meanwhile.
        credential = self._certificates[cluster] if endpoint.local_accounts else await self._entra.token(AKS)
        return Api(endpoint, credential, dry=dry)

    async def principal(self) -> str:
        """The object id under which clusters know the app, for messages."""
        try:
            return claims(await self._entra.token(AKS)).get("oid", "<object id>")
        except EntraError:
            return "<object id>"
