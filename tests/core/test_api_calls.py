"""What the calls to an API server are conditional on, what their responses hold, and which server gets them."""

import asyncio
import base64
import json
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
import pytest_asyncio
import stamina

from local.clock import Clock
from local.cloud import Cloud, LocalCluster
from local.kubernetes import recordings
from local.kubernetes.server import ApiServer
from local.serving import Authority
from pullkeeper import bounded
from pullkeeper.azure.arm import Arm
from pullkeeper.azure.clusters import AzureClusters
from pullkeeper.azure.entra import Entra
from pullkeeper.cluster import connection, pull_secret
from pullkeeper.cluster.access import Access
from pullkeeper.cluster.api import Api, path_of
from pullkeeper.cluster.lists import list_all
from pullkeeper.cluster.ownership import LABELS, ObjectMetadata, managers
from pullkeeper.cluster.refusals import ListExpired
from pullkeeper.errors import (
    ClusterMoved,
    ClusterRbacDenied,
    ClusterThrottled,
    ClusterTlsUntrusted,
    ClusterUnauthorized,
    ClusterUnreachable,
    ClusterUnwell,
    ObjectChanged,
    PullkeeperError,
    SecretImmutable,
)
from pullkeeper.model import Endpoint, Target
from pullkeeper.names import look_up
from pullkeeper.tokens import ClientCertificate, EntraToken, Token
from tests.core.canned import ANY_PATH, http, serve_canned
from tests.core.credential import UncheckedCredential
from tests.core.failures import format_failure
from tests.core.test_in_cluster_trust import Old

_TARGET: Final = Target(service_accounts=("app",))
_SECRET: Final = pull_secret.path(_TARGET)
_CONTENT: Final = base64.b64encode(b'{"auths":{"canary.example":{"auth":"Y2FuYXJ5"}}}').decode()
_METADATA: Final = {"name": _TARGET.secret, "namespace": _TARGET.namespace}
_BODY: Final[dict[str, Any]] = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {**_METADATA, "labels": LABELS},
    "type": "kubernetes.io/dockerconfigjson",
    "data": {".dockerconfigjson": _CONTENT},
}


@pytest_asyncio.fixture
async def cluster(authority: Authority) -> AsyncIterator[LocalCluster]:
    async with Cloud(Clock(), authority) as cloud:
        cloud.add_hub("main")
        yield await cloud.add_cluster("aks-1", "main")


@pytest_asyncio.fixture
async def api(cluster: LocalCluster) -> AsyncIterator[Api]:
    """Under the rights of an administrator."""
    certificate = ClientCertificate(cluster.server.admin_cert_pem, cluster.server.admin_key_pem)
    async with Api(cluster.member.endpoint, certificate) as opened:
        yield opened


async def _write_beside_us(cluster: LocalCluster) -> None:
    await cluster.admin.edit_secret(_TARGET.namespace, _TARGET.secret, '{"auths":{}}')


async def test_a_secret_that_was_created_again_is_not_deleted(cluster: LocalCluster, api: Api) -> None:
    seen = await api.apply(_SECRET, _BODY)
    await cluster.admin.delete_secret(_TARGET.namespace, _TARGET.secret)
    await api.delete(_SECRET, seen.uid)  # it is gone already
    again = await cluster.admin.create_secret(_TARGET.namespace, _TARGET.secret, "{}")
    with pytest.raises(ObjectChanged):
        await api.delete(_SECRET, seen.uid)
    assert (await cluster.admin.read_secret(_TARGET.namespace, _TARGET.secret))["metadata"]["uid"] == again


async def test_our_fields_are_not_withdrawn_from_another_object_of_the_name(cluster: LocalCluster, api: Api) -> None:
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _METADATA, "data": {"ours": "1"}}
    path = path_of(config)
    seen = await api.apply(path, config)
    await cluster.admin.call("DELETE", path)
    await api.apply(path, config)
    with pytest.raises(SecretImmutable, match=r"metadata\.uid"):
        await api.withdraw(path, config, seen.uid)
    assert (await cluster.admin.call("GET", path))["data"] == {"ours": "1"}


async def test_our_fields_are_withdrawn_from_an_object_without_a_namespace(cluster: LocalCluster, api: Api) -> None:
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "theirs", "labels": LABELS},
    }
    seen = await api.apply(path_of(role), role)
    await api.withdraw(path_of(role), role, seen.uid)
    assert not (await cluster.admin.call("GET", path_of(role)))["metadata"].get("labels")


async def test_a_secret_that_has_changed_since_is_not_given_back(cluster: LocalCluster, api: Api) -> None:
    """A manager that has joined meanwhile would be forgotten."""
    seen = await api.apply(_SECRET, _BODY)
    await _write_beside_us(cluster)
    with pytest.raises(ObjectChanged):
        await pull_secret.release(api, _TARGET, seen)
    left = await cluster.admin.read_secret(_TARGET.namespace, _TARGET.secret)
    assert managers(left["metadata"]) == {"pullkeeper", "kubectl-edit"}


async def test_a_secret_that_is_given_back_has_nothing_of_ours(cluster: LocalCluster, api: Api) -> None:
    """Times that no longer hold would be taken for the token's. Its other managers stay what they are."""
    annotations = {"pullkeeper.dev/expires-at": "2026-01-01T00:00:00+00:00", "theirs": "yes"}
    await api.apply(_SECRET, {**_BODY, "metadata": {**_BODY["metadata"], "annotations": annotations}})
    await _write_beside_us(cluster)
    seen = await api.look(_SECRET, "Secret")
    assert seen
    await pull_secret.release(api, _TARGET, seen)
    left = (await cluster.admin.read_secret(_TARGET.namespace, _TARGET.secret))["metadata"]
    assert (left["annotations"], left.get("labels") or {}) == ({"theirs": "yes"}, {})
    assert managers(left) == {"kubectl-edit"}


class _Meanwhile(Api):
    """Another client changes the service account between each read and the next patch, while there are changes."""

    cluster: LocalCluster
    changes: list[dict[str, Any]]

    async def json_patch(self, path: str, operations: Sequence[Any]) -> None:
        if self.changes:
            merge = "application/merge-patch+json"
            await self.cluster.admin.call("PATCH", path, self.changes.pop(0), content_type=merge)
        await super().json_patch(path, operations)


@pytest.mark.parametrize(
    ("before", "meanwhile", "after"),
    [
        ([], ["theirs"], ["theirs", "ar-pull-secret"]),
        (["one"], ["one", "theirs"], ["one", "theirs", "ar-pull-secret"]),
    ],
    ids=["the first name", "one more"],
)
async def test_a_reference_that_is_added_replaces_none_that_came_meanwhile(
    cluster: LocalCluster, before: list[str], meanwhile: list[str], after: list[str]
) -> None:
    api, path = await _open(cluster, before), pull_secret.account_path(_TARGET, "app")
    async with api:
        api.changes = [{"imagePullSecrets": [{"name": name} for name in meanwhile]}]
        await pull_secret.add_reference(api, _TARGET, "app")
        await pull_secret.add_reference(api, _TARGET, "app")  # it is there
    named = (await cluster.admin.call("GET", path))["imagePullSecrets"]
    assert [one["name"] for one in named] == after
    patches = [one for one in cluster.part.journal.requests if one.method == "PATCH" and one.path == path]
    assert len([one for one in patches if one.headers["User-Agent"].startswith("pullkeeper/")]) <= 2, "each read first"


async def test_a_reference_is_added_however_often_others_change_the_account(cluster: LocalCluster) -> None:
    """Other targets name their secrets in it at the same time."""
    api, path = await _open(cluster, []), pull_secret.account_path(_TARGET, "app")
    api.changes = [{"metadata": {"labels": {"theirs": str(number)}}} for number in range(4)]
    with stamina.set_testing(True, attempts=5, cap=True):
        async with api:
            await pull_secret.add_reference(api, _TARGET, "app")
    assert (await cluster.admin.call("GET", path))["imagePullSecrets"] == [{"name": "ar-pull-secret"}]
    assert api.changes == []


async def test_a_reference_is_removed_from_the_place_where_it_is_by_now(cluster: LocalCluster) -> None:
    api, path = await _open(cluster, []), pull_secret.account_path(_TARGET, "app")
    async with api:
        await pull_secret.add_reference(api, _TARGET, "app")
        api.changes = [{"imagePullSecrets": [{"name": "theirs"}, {"name": "ar-pull-secret"}]}]
        await pull_secret.remove_reference(api, _TARGET, "app")
    named = (await cluster.admin.call("GET", path))["imagePullSecrets"]
    assert {"name": "theirs"} in named


async def _open(cluster: LocalCluster, names: list[str]) -> _Meanwhile:
    """A client, and a service account that names these secrets."""
    named = {"imagePullSecrets": [{"name": name} for name in names]} if names else {}
    # Field managers are recorded from the first applied field on.
    metadata = {"name": "app", "namespace": _TARGET.namespace, "labels": {"theirs": "yes"}}
    await cluster.admin.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata, **named})
    certificate = ClientCertificate(cluster.server.admin_cert_pem, cluster.server.admin_key_pem)
    api = _Meanwhile(cluster.member.endpoint, certificate)
    api.cluster, api.changes = cluster, []
    return api


async def test_no_response_to_a_write_has_the_content_of_a_secret(
    cluster: LocalCluster, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not of a write that changed something, not of one that was refused, and not of a deletion."""
    read, responses = bounded.read, list[bytes]()

    async def noted(response: aiohttp.ClientResponse, limit: int) -> bytes:
        responses.append(await read(response, limit))
        return responses[-1]

    monkeypatch.setattr(bounded, "read", noted)
    await api.apply(_SECRET, _BODY)
    await api.apply(_SECRET, _BODY)
    await _write_beside_us(cluster)
    with pytest.raises(PullkeeperError):
        await api.apply(_SECRET, _BODY)
    seen = await api.apply(_SECRET, _BODY, force=True)
    assert await api.look(_SECRET, "Secret")
    with pytest.raises(PullkeeperError):
        await pull_secret.release(api, _TARGET, ObjectMetadata(created=False, metadata={"resourceVersion": "1"}))
    await pull_secret.release(api, _TARGET, seen)
    await api.json_patch(_SECRET, [{"op": "add", "path": "/metadata/labels", "value": {"a": "b"}}])
    await api.delete(_SECRET, seen.uid)
    assert len(responses) >= 9
    assert not [response for response in responses if _CONTENT.encode() in response or b'"data"' in response]
    writes = [one for one in cluster.part.journal.requests if one.headers["User-Agent"].startswith("pullkeeper/")]
    accepted = {(one.method, one.headers["Accept"].partition(";")[2].partition(";")[0]) for one in writes}
    assert accepted == {("PATCH", "as=PartialObjectMetadata"), ("DELETE", "as=PartialObjectMetadata")}


async def test_a_refused_release_quotes_no_response(authority: Authority) -> None:
    """A server may answer a patch that fails with the whole object."""
    refused = http(
        422, {"kind": "Status", "message": f'Secret "pull" is invalid: {_CONTENT}', "code": 422}, Retry_After="7"
    )
    async with serve_canned(authority, {ANY_PATH: refused}) as server:
        endpoint = Endpoint(server=f"https://{server.host}", ca=authority.pem, read_at="2026-01-01T00:00:00Z")
        seen = ObjectMetadata(created=False, metadata={"resourceVersion": "1"})
        async with Api(endpoint, EntraToken("canary")) as api:
            with pytest.raises(PullkeeperError) as raised:
                await pull_secret.release(api, _TARGET, seen)
    assert raised.value.detail == "the server refused the patch"
    assert "is invalid" not in format_failure(raised.value), "nor does what caused it"
    assert raised.value.retry_after == timedelta(seconds=7)


async def test_a_server_that_asks_for_a_long_wait_is_left_to_the_queue(authority: Authority) -> None:
    """A wait here holds a place that others need."""
    busy = http(429, b"Too many requests", Retry_After="23")
    async with serve_canned(authority, {ANY_PATH: busy}) as server, asyncio.timeout(10):
        endpoint = Endpoint(server=f"https://{server.host}", ca=authority.pem, read_at="2026-01-01T00:00:00Z")
        async with Api(endpoint, EntraToken("canary")) as api:
            with pytest.raises(ClusterThrottled):
                await api.get("/api/v1/namespaces/a")
    assert len(server.requests) == 1


@pytest.mark.parametrize("answer", [{}, {"status": "ok"}], ids=["no status", "a word"])
async def test_a_review_without_an_answer_is_not_of_an_api_server(authority: Authority, answer: object) -> None:
    async with serve_canned(authority, {ANY_PATH: http(200, answer)}) as server:
        endpoint = Endpoint(server=f"https://{server.host}", ca=authority.pem, read_at="2026-01-01T00:00:00Z")
        async with Api(endpoint, None) as api:
            with pytest.raises(ClusterMoved):
                await api.is_allowed("get", "apps", "deployments", "shop", "till")
    assert json.loads(server.requests[0].body) == {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {
            "resourceAttributes": {
                "verb": "get",
                "group": "apps",
                "resource": "deployments",
                "namespace": "shop",
                "name": "till",
            }
        },
    }


async def test_a_certificate_of_the_clusters_ca_for_another_name_is_refused() -> None:
    """The CA signs for kubelets too."""
    ca = Authority()
    async with serve_canned(
        ca, {ANY_PATH: http(200, {"metadata": {"uid": "u"}})}, hosts=("kubelet.example",)
    ) as server:
        endpoint = Endpoint(server=f"https://{server.host}", ca=ca.pem, read_at="2026-01-01T00:00:00Z")
        async with Api(endpoint, EntraToken("canary")) as api:
            with pytest.raises(ClusterTlsUntrusted):
                await api.get("/api/v1/namespaces/a")
    assert server.requests == []


async def test_a_certificate_that_the_system_trusts_is_not_one_of_the_cluster(authority: Authority) -> None:
    async with serve_canned(authority, {ANY_PATH: http(200, {"metadata": {"uid": "u"}})}) as server:
        endpoint = Endpoint(server=f"https://{server.host}", ca=Authority().pem, read_at="2026-01-01T00:00:00Z")
        async with Api(endpoint, EntraToken("canary")) as api:
            with pytest.raises(ClusterTlsUntrusted):
                await api.get("/api/v1/namespaces/a")
    assert server.requests == []


async def test_each_address_of_a_name_is_tried_once() -> None:
    """Each try has a time-out of its own."""
    assert len(await look_up("127.0.0.1", 443)) == 1


def test_the_contexts_that_are_kept_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest makes way: a fleet is refreshed in the same order again and again."""
    monkeypatch.setattr(connection, "_contexts", {})
    monkeypatch.setattr(connection, "_CONTEXTS", 2)
    first, *others = (Authority().pem for _ in range(3))
    kept = connection._context(first)
    for ca in others:
        connection._context(ca)
    assert len(connection._contexts) == 2
    assert connection._context(first) is kept


@pytest.mark.parametrize("refusal", ["quota", "namespace-terminating"])
async def test_where_no_secret_can_be_created_none_is_seen(cluster: LocalCluster, api: Api, refusal: str) -> None:
    with cluster.part.faults.inject(recordings.fault(refusal, path="/secrets/")):
        assert await pull_secret.look(api, _TARGET) is None


def test_few_tokens_are_kept_for_the_next_cluster() -> None:
    """One serves all clusters of a hub; those of hours ago are dropped."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    tokens = [Token(f"canary-{number}", at, at + timedelta(hours=1)) for number in range(9)]
    encoded = [pull_secret._encode(("eu.gcr.io",), token) for token in tokens]
    assert pull_secret._encode(("eu.gcr.io",), tokens[-1]) is encoded[-1]
    assert pull_secret._encode(("eu.gcr.io",), tokens[0]) is not encoded[0]


async def test_a_client_certificate_is_presented_by_its_own_client_only(cluster: LocalCluster, api: Api) -> None:
    """Clients of a cluster share what was prepared for it."""
    assert await api.is_allowed("*", "*", "*")
    async with Api(cluster.member.endpoint, None) as other:
        with pytest.raises(ClusterRbacDenied, match="system:anonymous"):
            await other.is_allowed("*", "*", "*")


async def test_each_cluster_is_opened_with_its_own_certificate(cluster: LocalCluster) -> None:
    server = cluster.server
    assert isinstance(server, ApiServer)
    another = ClientCertificate(*server.client_certificate("of-another-cluster", "another-group"))
    own = ClientCertificate(server.admin_cert_pem, server.admin_key_pem)
    entra = Entra(UncheckedCredential)
    clusters = AzureClusters(Arm(entra, "https://127.0.0.1:1"), Clock())
    access = Access(entra, clusters, {cluster.id._replace(name="another"): another, cluster.id: own})
    endpoint = cluster.member.endpoint.model_copy(update={"local_accounts": True})
    async with await access.open(cluster.id, endpoint) as api:
        assert await api.is_allowed("*", "*", "*")
    # With Entra, the token is used, although the certificate is still held.
    async with await access.open(cluster.id, cluster.member.endpoint) as api:
        with pytest.raises(ClusterUnauthorized):
            await api.is_allowed("*", "*", "*")


def _list_open_files() -> list[str]:
    return [str(one.readlink()) for one in Path("/proc/self/fd").iterdir() if one.is_symlink()]


async def test_a_clients_key_is_in_no_open_file(cluster: LocalCluster) -> None:
    certificate = ClientCertificate(cluster.server.admin_cert_pem, cluster.server.admin_key_pem)
    async with Api(cluster.member.endpoint, certificate):
        opened = _list_open_files()
    assert not [one for one in opened if "client-certificate" in one]


async def test_names_are_looked_up_in_threads_of_their_own(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that hangs must hold no thread that a mint, or another cluster, needs."""
    look_up, threads, released = socket.getaddrinfo, list[str](), threading.Event()

    def noted(host: str, *arguments: Any, **options: Any) -> Any:
        threads.append(threading.current_thread().name)
        if host == "hangs.example":
            released.wait(10)
        return look_up("localhost", *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", noted)
    resolver = connection._Resolver()
    hanging = [asyncio.create_task(resolver.resolve("hangs.example")) for _ in range(20)]
    async with asyncio.timeout(8):
        while len(threads) < 20:  # noqa: ASYNC110 - threads have no event for it
            await asyncio.sleep(0.01)
    server = cluster.member.endpoint.server.replace("127.0.0.1", "localhost")
    async with Api(cluster.member.endpoint.model_copy(update={"server": server}), None) as api:
        with pytest.raises(ClusterRbacDenied):
            await api.get("/api/v1/namespaces/a")
    released.set()
    await asyncio.gather(*hanging)
    assert {name.partition("_")[0] for name in threads} == {"names"}


async def test_a_ca_that_python_3_13_would_refuse_is_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    create, old = ssl.create_default_context, Old()

    def create_strict(*arguments: Any, **options: Any) -> ssl.SSLContext:
        context = create(*arguments, **options)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    monkeypatch.setattr(ssl, "create_default_context", create_strict)
    async with serve_canned(old, {ANY_PATH: http(200, {"metadata": {"uid": "a"}})}) as server:
        endpoint = Endpoint(server=f"https://{server.host}", ca=old.pem, read_at="2026-01-01T00:00:00Z")
        async with Api(endpoint, EntraToken("canary")) as api:
            assert (await api.get("/api/v1/namespaces/a"))["metadata"] == {"uid": "a"}


@pytest.mark.parametrize(
    ("host", "proxy"),
    [("inside.example", None), ("port.example", None), ("outside.example", "http://proxy.example:1")],
)
async def test_a_server_in_no_proxy_is_called_without_one(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, host: str, proxy: str | None
) -> None:
    monkeypatch.setattr(connection, "_template", connection._template.__wrapped__)
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:1")
    monkeypatch.setenv("NO_PROXY", "inside.example,port.example:443")
    endpoint = Endpoint(server=f"https://{host}:443", ca=authority.pem, read_at="2026-01-01T00:00:00Z")
    assert connection.connect(endpoint, None).proxy == proxy


@pytest.mark.parametrize(
    ("items", "metadata"),
    [([1], {}), ([{}], {}), (5, {}), ([], [])],
    ids=["numbers", "no metadata", "a number", "no next page"],
)
async def test_a_list_of_something_else_is_not_of_an_api_server(
    authority: Authority, items: object, metadata: object
) -> None:
    async with serve_canned(authority, {ANY_PATH: http(200, {"items": items, "metadata": metadata})}) as server:
        endpoint = Endpoint(server=f"https://{server.host}", ca=authority.pem, read_at="2026-01-01T00:00:00Z")
        async with Api(endpoint, EntraToken("canary")) as api:
            with pytest.raises(ClusterMoved):
                await api.list_page("/api/v1/namespaces", "")
    assert "as=PartialObjectMetadataList" in server.requests[0].headers["accept"], "secrets are listed too"


@pytest.mark.parametrize("items", [[1], 5, None], ids=["numbers", "a number", "null"])
async def test_a_list_without_objects_is_not_of_an_api_server(authority: Authority, items: object) -> None:
    async with serve_canned(authority, {ANY_PATH: http(200, {"items": items})}) as server:
        endpoint = Endpoint(server=f"https://{server.host}", ca=authority.pem, read_at="2026-01-01T00:00:00Z")
        async with Api(endpoint, EntraToken("canary")) as api:
            with pytest.raises(ClusterMoved):
                await api.list_objects("/api/v1/pods", 10)
    assert [one.path for one in server.requests] == ["/api/v1/pods?limit=10"], "whole objects, no more than are needed"


class _Paged(Api):
    """A list of two pages. expires: before the second is read."""

    asked: list[tuple[str, str, str]]
    expires = False

    async def list_page(
        self, path: str, token: str, *, labels: str = "", fields: str = ""
    ) -> tuple[list[dict[str, Any]], str]:
        self.asked.append((token, labels, fields))
        if token and self.expires:
            raise ListExpired("410")
        return [{"name": path}], "" if token else "second"


async def test_each_page_is_selected_as_the_first(authority: Authority) -> None:
    endpoint = Endpoint(server="https://127.0.0.1:1", ca=authority.pem, read_at="2026-01-01T00:00:00Z")
    async with _Paged(endpoint, None) as api:
        api.asked = []
        assert len(await list_all(api, "/api/v1/secrets", labels="a=b", fields="metadata.name=c")) == 2
    assert api.asked == [("", "a=b", "metadata.name=c"), ("second", "a=b", "metadata.name=c")]


async def test_a_list_that_expires_again_and_again_is_given_up(authority: Authority) -> None:
    endpoint = Endpoint(server="https://127.0.0.1:1", ca=authority.pem, read_at="2026-01-01T00:00:00Z")
    async with _Paged(endpoint, None) as api:
        api.asked, api.expires = [], True
        with pytest.raises(ClusterUnwell, match="the list of secrets expired 3 times"):
            await list_all(api, "/api/v1/secrets")
    assert [token for token, *_ in api.asked] == ["", "second"] * 3


async def test_a_server_without_tls_is_not_the_clusters(authority: Authority) -> None:
    """Azure knows whether the cluster has another address by now."""

    async def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        host = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        endpoint = Endpoint(server=f"https://{host}", ca=authority.pem, read_at="2026-01-01T00:00:00Z")
        async with Api(endpoint, EntraToken("canary")) as api:
            with pytest.raises(ClusterTlsUntrusted):
                await api.get("/api/v1/namespaces/a")


async def test_a_cluster_gets_four_connections_however_many_calls(authority: Authority) -> None:
    async with serve_canned(authority, {ANY_PATH: (None,)}) as server:
        endpoint = Endpoint(server=f"https://{server.host}", ca=authority.pem, read_at="2026-01-01T00:00:00Z")
        async with Api(endpoint, EntraToken("canary")) as api:
            calls = [asyncio.create_task(api.get("/api/v1/namespaces/a")) for _ in range(6)]
            while len(server.requests) < 4:  # noqa: ASYNC110 - a canned server has no event for it
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            assert len(server.requests) == 4
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)


@pytest.mark.usefixtures("netrc")
async def test_a_password_in_netrc_does_not_replace_the_token(authority: Authority) -> None:
    async with serve_canned(authority, {ANY_PATH: http(200, {"metadata": {"uid": "u"}})}) as server:
        endpoint = Endpoint(server=f"https://{server.host}", ca=authority.pem, read_at="2026-01-01T00:00:00Z")
        for credential in (EntraToken("canary"), None):
            async with Api(endpoint, credential) as api:
                await api.get("/api/v1/namespaces/a")
    assert [request.headers.get("authorization") for request in server.requests] == ["Bearer canary", None]


async def test_an_api_server_is_reached_through_the_proxy(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which gets no token."""
    monkeypatch.setattr(connection, "_template", connection._template.__wrapped__)
    async with serve_canned(None, {ANY_PATH: http(502)}) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.host}")
        endpoint = Endpoint(server="https://outside.example:443", ca=authority.pem, read_at="2026-01-01T00:00:00Z")
        async with Api(endpoint, EntraToken("canary")) as api:
            with pytest.raises(ClusterUnreachable):
                await api.get("/api/v1/namespaces/a")
    [request] = proxy.requests
    assert (request.method, request.path) == ("CONNECT", "outside.example:443")
    assert "authorization" not in request.headers


@pytest.mark.parametrize("host", ["missing.invalid", f"{'a' * 70}.invalid"], ids=["no one's", "none at all"])
async def test_a_name_that_does_not_resolve_leads_to_azure(authority: Authority, host: str) -> None:
    endpoint = Endpoint(server=f"https://{host}", ca=authority.pem, read_at="2026-01-01T00:00:00Z")
    async with Api(endpoint, EntraToken("canary")) as api:
        with pytest.raises(ClusterMoved, match="does not resolve"):
            await api.get("/api/v1/namespaces/a")


async def test_cookies_of_an_api_server_are_not_sent_back(authority: Authority) -> None:
    """Clients of a cluster share what was prepared for it; a cookie would follow the next identity."""
    answer = http(200, {"metadata": {"uid": "u"}}, Set_Cookie="session=canary; Path=/")
    async with serve_canned(authority, {ANY_PATH: answer}) as server:
        name = server.host.replace("127.0.0.1", "localhost")  # no cookies are kept for addresses
        endpoint = Endpoint(server=f"https://{name}", ca=authority.pem, read_at="2026-01-01T00:00:00Z")
        async with Api(endpoint, EntraToken("canary")) as api:
            await api.get("/api/v1/namespaces/a")
            await api.get("/api/v1/namespaces/a")
    assert len(server.requests) == 2
    assert not any("cookie" in request.headers for request in server.requests)
