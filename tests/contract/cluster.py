"""A cluster as a test meets it: an administrator with all rights, and identities with what the test grants them."""

import contextlib
import ssl
import tempfile
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp

from local.administrator import ApiServer
from local.azure.entra import Entra, Identity
from local.kubernetes.apiserver import AKS_SERVER_APPLICATION
from tests.contract.conversation import Answer, Caller, Json, until


@dataclass(frozen=True, slots=True)
class Cluster:
    url: str
    entra: Entra
    admin: Caller  # by client certificate, in system:masters
    stranger: Caller  # without any credentials

    def caller(self, identity: Identity) -> Caller:
        return self.bearer(self.entra.token(identity, AKS_SERVER_APPLICATION))

    def bearer(self, token: str) -> Caller:
        return Caller(self.stranger.session, self.url, token)

    async def namespace(self) -> str:
        """Create a namespace that no other test has. Its name."""
        name = f"t-{uuid.uuid4().hex[:12]}"
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        assert (await self.admin.post("/api/v1/namespaces", body)).status == 201
        return name

    async def grant(self, namespace: str, identity: Identity, *rules: Json) -> None:
        """Bind the identity to a role `refresher` with these rules and wait until the server knows it."""
        rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
        role = {"metadata": {"name": "refresher"}, "rules": list(rules)}
        binding = {
            "metadata": {"name": "refresher"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "refresher"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": identity.principal_id}],
        }
        assert (await self.admin.post(f"{rbac}/roles", role)).status == 201
        assert (await self.admin.post(f"{rbac}/rolebindings", binding)).status == 201
        for rule in rules:
            await self._knows(namespace, identity, rule)

    async def _knows(self, namespace: str, identity: Identity, rule: Json) -> None:
        attributes = {
            "namespace": namespace,
            "verb": rule["verbs"][0],
            "resource": rule["resources"][0],
            "group": rule["apiGroups"][0],
            "name": rule.get("resourceNames", [""])[0],
        }
        review = {"spec": {"resourceAttributes": attributes}}
        caller = self.caller(identity)

        def allowed(answer: Answer) -> bool:
            return answer.body["status"]["allowed"] is True

        await until(lambda: caller.post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review), allowed)


@contextlib.asynccontextmanager
async def connected(server: ApiServer, entra: Entra) -> AsyncIterator[Cluster]:
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as pem:
        pem.write(server.admin_key_pem + server.admin_cert_pem)
        pem.flush()
        with_admin_certificate = ssl.create_default_context(cadata=server.ca_pem)
        with_admin_certificate.load_cert_chain(pem.name)
    without_certificate = ssl.create_default_context(cadata=server.ca_pem)
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=with_admin_certificate)) as with_certificate,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=without_certificate)) as without,
    ):
        admin, stranger = Caller(with_certificate, server.url), Caller(without, server.url)
        yield Cluster(server.url, entra, admin, stranger)
