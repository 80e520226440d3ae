"""The API server: one cluster with its CA, its certificate for the administrator, and its address."""

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

import trustme
from aiohttp import web
from aiohttp.typedefs import Middleware

from local.kubernetes import bootstrap, calls, validation
from local.kubernetes.authentication import MASTERS, Issuer, authenticate
from local.kubernetes.authorization import Rbac
from local.kubernetes.calls import Attributes, Call, Json
from local.kubernetes.kinds import ACCESS_REVIEWS, PODS
from local.kubernetes.objects import Objects
from local.kubernetes.refusals import Refusal, not_played
from local.kubernetes.store import Store
from local.serving import Authority, Server

_HEADERS: Final = {"Cache-Control": "no-cache, private", "Content-Type": "application/json"}
_REVIEWED: Final = {"verb", "group", "resource", "subresource", "namespace", "name"}


class ApiServer:
    """A cluster's API server under its own CA. Start it, and call `url` with a client certificate or a token.

    `issuer`: whose tokens it accepts. `middlewares` run before authentication, the first one outermost: a `Journal`'s,
    then that of `Faults`.
    """

    def __init__(
        self,
        name: str,
        entra: Issuer,
        clock: Callable[[], datetime],
        *,
        middlewares: Sequence[Middleware] = (),
    ) -> None:
        self.name = name
        self.issuer = entra
        self._store = store = Store()
        bootstrap.fill(store, clock)
        self._rbac = Rbac(store)
        self._objects = Objects(store, clock, self._rbac)
        application = web.Application(middlewares=middlewares, client_max_size=calls.BODY_LIMIT)
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._ca = trustme.CA(organization_name=f"Kubernetes {name}")
        self.ca_pem = self._ca.cert_pem.bytes().decode()
        self.admin_cert_pem, self.admin_key_pem = self.client_certificate("masterclient", MASTERS)
        self._server = Server(application, authority=Authority(self._ca), client_ca_pem=self.ca_pem)

    @property
    def url(self) -> str:
        """https://127.0.0.1:PORT, where the port is 0 before the first start and stays the same after it."""
        return self._server.url

    async def start(self) -> None:
        await self._server.start()

    async def present(self, authority: Authority | None = None) -> None:
        """Close all connections, and present a certificate of another CA, as a proxy that intercepts TLS does; without
        one, of the cluster's own again.
        """
        await self.stop()
        self._server.certify(authority or Authority(self._ca))
        await self.start()

    async def stop(self) -> None:
        """Stop listening. What is stored stays for the next start: a cluster that is unreachable for a while."""
        await self._server.stop()

    def client_certificate(self, user: str, group: str) -> tuple[str, str]:
        """PEM of a certificate and of its key, as a cluster with local accounts issues them."""
        # trustme wants a host in every certificate; it is not looked at here.
        issued = self._ca.issue_cert("localhost", common_name=user, organization_name=group)
        return issued.cert_chain_pems[0].bytes().decode(), issued.private_key_pem.bytes().decode()

    def end_namespaces(self) -> None:
        """Complete the deletion of namespaces that are terminating, as a controller of a real cluster does."""
        self._objects.end_namespaces()

    def put_pod(self, pod: Json) -> None:
        """Keep a pod with its status, as the scheduler and the kubelet of a real cluster leave it."""
        self._store.put(PODS, pod)

    def remove_pod(self, namespace: str, name: str) -> None:
        """Remove a pod if it is there."""
        if self._store.get(PODS, namespace, name):
            self._store.delete(PODS, namespace, name)

    async def _handle(self, request: web.Request) -> web.Response:
        try:
            certificate = request.transport.get_extra_info("peercert") if request.transport else None
            user = authenticate(self.issuer, certificate, request.headers.get("Authorization", ""))
            call = calls.parse(request, user)
            self._rbac.check(call)
            status, body = self._answer(call, await calls.read(request))
        except Refusal as refusal:
            return refusal.response
        if call.metadata_only and call.verb != "list" and body["kind"] != "Status":
            body = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": body["metadata"]}
        text = json.dumps(body, separators=(",", ":"), ensure_ascii=False) + "\n"
        return web.Response(status=status, headers=_HEADERS, body=text.encode())

    def _answer(self, call: Call, body: Json) -> tuple[int, Json]:
        """Status and body. Raises Refusal."""
        if call.kind is ACCESS_REVIEWS:
            return 201, self._review(call, body)
        if call.verb == "apply":
            made, is_new = self._objects.apply(call, body)
            return 201 if is_new else 200, made
        if call.verb == "get":
            return 200, self._objects.get(call)
        if call.verb == "list":
            return 200, self._objects.list(call)
        change = {"create": self._objects.create, "delete": self._objects.delete}.get(call.verb, self._objects.patch)
        return 201 if call.verb == "create" else 200, change(call, body)

    def _review(self, call: Call, body: Json) -> Json:
        """A SelfSubjectAccessReview with its answer. The reason, which the real server gives, is left out."""
        validation.check_body(call, body)
        asked = (body.get("spec") or {}).get("resourceAttributes")
        if call.verb != "create" or not asked or len(body["spec"]) > 1 or not asked.keys() <= _REVIEWED:
            raise not_played("an access review of anything but the caller's right to a resource")
        allowed = self._rbac.allows(call.user, Attributes(**{"verb": "", "group": "", "resource": "", **asked}))
        named = {"apiVersion": call.kind.api_version, "kind": call.kind.name}
        return {**body, **named, "metadata": {}, "status": {"allowed": allowed}}
