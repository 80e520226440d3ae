"""Hostile requests to the routes, sent through the host as an attacker would send them.

The platform refuses wrong tokens under Easy Auth (abuse case 1): they never reach the app. Forged queue messages are
tested in tests/end_to_end, upstream errors that echo a token in tests/abuse.
"""

import base64
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio

from local.azurite import Azurite
from local.cloud import GROUP, SUBSCRIPTION
from local.serving import Authority
from tests.core.hostile import cases, pairs
from tests.http.conftest import (
    App,
    Response,
    cluster_path,
    host_app,
    onboarding_body,
    principal,
    principal_header,
)

pytestmark = [pytest.mark.servers, pytest.mark.asyncio(loop_scope="module")]
_CANARY: Final = "evil"
_PROBLEM: Final = {"type", "title", "status", "detail", "category", "remedy"}
_ARM: Final = "/subscriptions/{}/resourceGroups/{}/providers/Microsoft.ContainerService/managedClusters/{}"
_CLUSTER: Final = _ARM.format(SUBSCRIPTION, GROUP, "aks-1")
_ONE: Final = f"clusters/{SUBSCRIPTION}/{GROUP}/aks-1"
_CONFIG: Final[dict[str, Any]] = {
    "type": "external_account",
    "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/provider",
    "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
    "token_url": "https://sts.googleapis.com/v1/token",
    "credential_source": {"file": "/var/run/secrets/azure/tokens/azure-identity-token"},
}
_HOSTILE: Final = json.loads(Path(__file__).with_name("hostile.json").read_text(encoding="utf-8"))
"""Fields of a request (abuse cases 4 and 10: unknown ones; 11: namespaces of Kubernetes' own components), and parts of
a route. The rest is in tests/core/hostile.json, which the model refuses, too.
"""
_OWN_HUB: Final[dict[str, Any]] = {
    "credentialConfig": _CONFIG,
    "registries": ["europe-docker.pkg.dev"],
    "probe": "europe-docker.pkg.dev/project/repository/image",
}


def _assert_problem(response: Response, status: int, category: str = "invalid_request") -> None:
    """A problem document with category and remedy, which does not quote the request."""
    assert response.status == status, response.text
    assert response.headers["Content-Type"] == "application/problem+json"
    assert set(response.body) == _PROBLEM
    assert (response.body["status"], response.body["category"]) == (status, category)
    assert response.body["remedy"]
    assert len(response.text) < 2000
    assert _CANARY not in response.text


async def _post_cluster(app: App, **fields: Any) -> Response:
    return await app.call("POST", "clusters", {"cluster": _CLUSTER, "hub": "main", **fields})


_ROUTES: Final = [
    ("GET", "clusters"),
    ("POST", "clusters"),
    ("GET", _ONE),
    ("DELETE", _ONE),
    ("GET", "operations"),
    ("GET", f"operations/{'0' * 32}"),
    ("GET", "handover"),
    ("GET", "openapi.json"),
    ("POST", "refresh"),
    ("POST", f"{_ONE}/refresh"),
]


@pytest.mark.parametrize(("method", "path"), _ROUTES)
async def test_every_route_but_health_needs_the_key(app: App, method: str, path: str) -> None:
    """A forged principal does not replace it: abuse cases 1 and 18."""
    forged = principal("Pullkeeper.Onboard", "Pullkeeper.Read")
    for key in (None, "wrong", app.host.keys.default[:-1], app.host.keys.default + "="):
        assert (await app.call(method, path, key=key, headers=forged)).status == 401


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def signed_in_app(request: pytest.FixtureRequest, azurite: Azurite, authority: Authority) -> AsyncIterator[App]:
    """The app where the platform has callers sign in with Entra."""
    name = f"{request.node.nodeid}-signed-in"
    async with host_app(name, azurite, authority, WEBSITE_AUTH_ENABLED="True") as app:
        yield app


_NO_ROLE: Final[dict[str, Mapping[str, str]]] = {
    "missing": {},
    "empty": {"X-MS-CLIENT-PRINCIPAL": ""},
    "no base64": {"X-MS-CLIENT-PRINCIPAL": "~~~"},
    "no JSON": {"X-MS-CLIENT-PRINCIPAL": base64.b64encode(b"Pullkeeper.Onboard").decode()},
    "a name alone": {"X-MS-CLIENT-PRINCIPAL-NAME": "admin", "X-MS-CLIENT-PRINCIPAL-ID": "admin"},
    "another shape": principal_header([["Pullkeeper.Onboard"]]),
    "claims of another shape": principal_header({"claims": "Pullkeeper.Onboard"}),
    "claims without values": principal_header({"claims": [{"typ": "roles"}]}),
    "a value of another shape": principal_header({"claims": [{"typ": "roles", "val": ["Pullkeeper.Onboard"]}]}),
    "deep": {"X-MS-CLIENT-PRINCIPAL": base64.b64encode(b"[" * 5000).decode()},
    "no roles": principal(),
    "another role": principal("Pullkeeper.Reader", "pullkeeper.onboard"),
    "a role in another claim": principal("Pullkeeper.Onboard", "Pullkeeper.Read", kind="name"),
}


@pytest.mark.parametrize("headers", _NO_ROLE.values(), ids=_NO_ROLE)
@pytest.mark.parametrize(
    ("method", "path"), [("GET", "clusters"), ("GET", "operations"), ("POST", "clusters"), ("DELETE", _ONE)]
)
async def test_a_caller_without_the_role_is_refused(
    signed_in_app: App, headers: Mapping[str, str], method: str, path: str
) -> None:
    """With the function key or without: abuse case 2."""
    for key in ("", None):
        response = await signed_in_app.call(method, path, headers=headers, key=key)
        _assert_problem(response, 403)


async def test_a_refusal_is_logged(signed_in_app: App) -> None:
    await signed_in_app.call("POST", "refresh")
    assert "refused: POST needs the app role Pullkeeper.Onboard" in signed_in_app.host.output


async def test_the_role_opens_its_routes(signed_in_app: App) -> None:
    """Without a key. The role that reads does not onboard."""
    reader, onboarder = principal("Pullkeeper.Read"), principal("Pullkeeper.Onboard")
    assert (await signed_in_app.call("GET", "clusters", headers=reader, key=None)).status == 200
    assert (await signed_in_app.call("GET", "operations", headers=reader, key=None)).status == 200
    assert (await signed_in_app.call("POST", "refresh", headers=onboarder, key=None)).status == 202
    cluster = await signed_in_app.add_cluster("aks-2")
    for method, path, body in (("POST", "clusters", onboarding_body(cluster)), ("DELETE", cluster_path(cluster), None)):
        refused = await signed_in_app.call(method, path, body, headers=reader, key=None)
        _assert_problem(refused, 403, refused.body["category"])
    started = await signed_in_app.call("POST", "clusters", onboarding_body(cluster), headers=onboarder, key=None)
    assert started.status == 202
    assert (await signed_in_app.call("GET", started.headers["Location"], headers=reader, key=None)).status == 200
    # The longest claim type that Entra writes, named by the principal itself.
    long = "http://schemas.microsoft.com/ws/2008/06/identity/claims/role"
    named = principal_header({"role_typ": long, "claims": [{"typ": long, "val": "Pullkeeper.Read"}]})
    assert (await signed_in_app.call("GET", "clusters", headers=named, key=None)).status == 200


@pytest.mark.parametrize(
    ("subscription", "group"),
    [
        (SUBSCRIPTION, "another"),
        (SUBSCRIPTION, GROUP[:-1]),
        (SUBSCRIPTION, f"{GROUP}-2"),
        (SUBSCRIPTION.replace("5eed", "5eee"), GROUP),
    ],
)
async def test_a_cluster_outside_the_allowed_scopes_is_refused(app: App, subscription: str, group: str) -> None:
    """For onboarding and for offboarding. Another team's cluster: abuse cases 3 and 6."""
    response = await _post_cluster(app, cluster=_ARM.format(subscription, group, "aks-1"))
    assert (response.status, "ONBOARDING_SCOPES" in response.body["detail"]) == (403, True)
    assert (await app.call("DELETE", f"clusters/{subscription}/{group}/aks-1")).status == 403


async def test_no_scope_is_allowed_by_default(
    request: pytest.FixtureRequest, azurite: Azurite, authority: Authority
) -> None:
    async with host_app(request.node.nodeid, azurite, authority, ONBOARDING_SCOPES="") as app:
        assert (await _post_cluster(app)).status == 403


@pytest.mark.parametrize("cluster", cases("cluster ids"))
async def test_an_invalid_cluster_id_is_refused(app: App, cluster: object) -> None:
    """Abuse cases 5 and 6."""
    _assert_problem(await _post_cluster(app, cluster=cluster), 400)


@pytest.mark.parametrize("part", [*_HOSTILE["partsOfRoutes"], "a" * 91])
@pytest.mark.parametrize("method", ["GET", "DELETE", "POST"])
async def test_an_invalid_name_in_a_route_is_refused(app: App, method: str, part: str) -> None:
    """Traversal, and injection into table keys: abuse cases 5 and 15. Dot segments and zeros never reach the app."""
    for path in (
        f"clusters/{SUBSCRIPTION}/{part}/aks-1",
        f"clusters/{SUBSCRIPTION}/{GROUP}/{part}",
        f"clusters/{part}/{GROUP}/aks-1",
    ):
        response = await app.call(method, f"{path}/refresh" if method == "POST" else path)
        if part == "%2e%2e":
            assert (response.status, response.text) == (404, "")
        elif part == "a%00":
            assert (response.status, response.text) == (400, "")
        else:
            _assert_problem(response, 400)


@pytest.mark.parametrize(
    "extra", ["/agentPools", "/refresh/x", "//refresh/x", "/%2e%2e/%2e%2e/%2e%2e/%2e%2e/admin/host"]
)
async def test_a_path_with_extra_segments_is_not_found(app: App, extra: str) -> None:
    assert (await app.call("GET", _ONE + extra)).status == 404


@pytest.mark.parametrize(
    "operation",
    ["x", "0" * 31, "0" * 33, "0" * 31 + "'", f"{'0' * 32}'%20or%20'", "a%2fb", "A" * 32, "%23", "%3f"],
)
async def test_an_invalid_operation_id_is_refused(app: App, operation: str) -> None:
    _assert_problem(await app.call("GET", f"operations/{operation}"), 400)


def _encode(token: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(token).encode()).decode()


_CONTINUATIONS: Final = {
    "no base64": "~~~",
    "no JSON": base64.urlsafe_b64encode(b"nothing").decode(),
    "empty": "",
    "an array": _encode([_CANARY]),
    "text": _encode("PartitionKey"),
    "half": _encode({"PartitionKey": "a"}),
    "one key": _encode(["00"]),
    "a filter in a key": _encode(["00", f"a' or PartitionKey ne '{_CANARY}"]),
    "a filter in a shard": _encode([f"a' or PartitionKey ne '{_CANARY}", "00"]),
    "filter": _encode({"PartitionKey": f"a' or PartitionKey ne '{_CANARY}", "RowKey": "b"}),
    "more parameters": _encode({"PartitionKey": f"a&$filter={_CANARY}", "RowKey": "b"}),
    "a header": _encode({"PartitionKey": "a\r\nX-Evil: yes", "RowKey": "b"}),
    "objects": _encode({"PartitionKey": {"a": _CANARY}, "RowKey": []}),
    "control characters": _encode({"PartitionKey": "\0", "RowKey": "\x7f"}),
    "deep": base64.urlsafe_b64encode(b"[" * 4000).decode(),
}


@pytest.mark.parametrize("continuation", _CONTINUATIONS.values(), ids=_CONTINUATIONS)
async def test_a_forged_continuation_is_refused(app: App, continuation: str) -> None:
    """Abuse case 15."""
    for path in ("clusters", _ONE):
        _assert_problem(await app.call("GET", f"{path}?continuation={continuation}"), 400)


_NO_OPERATIONS: Final = (
    "cluster=",
    "cluster=aks-1",
    f"cluster={_CLUSTER}'",
    f"cluster={_CLUSTER}&cluster={_CLUSTER}",
    f"cluster={_CLUSTER}%20or%20Status%20ne%20'{_CANARY}'",
    "status=",
    "status=succeeded",
    f"status={_CANARY}",
    "status=Succeeded'%20or%20PartitionKey%20ne%20'x",
    "continuation=",
    f"continuation={'0' * 31}'",
    f"continuation={'A' * 32}",
    f"continuation={_CANARY}",
    "state=fresh",
)


@pytest.mark.parametrize("query", _NO_OPERATIONS)
async def test_a_forged_query_for_operations_is_refused(app: App, query: str) -> None:
    """Abuse case 15."""
    _assert_problem(await app.call("GET", f"operations?{query}"), 400)


@pytest.mark.parametrize("query", ["state=", f"state={_CANARY}", "state=fresh'", "state=fresh&state=stale"])
async def test_an_unknown_state_is_refused(app: App, query: str) -> None:
    _assert_problem(await app.call("GET", f"clusters?{query}"), 400)


@pytest.mark.parametrize("hub", [_CANARY, "main%00", "..", "", "main,main"])
async def test_an_unknown_hub_is_refused(app: App, hub: str) -> None:
    _assert_problem(await app.call("GET", f"handover?hub={hub}"), 400)
    _assert_problem(await _post_cluster(app, hub=hub or "-"), 400)


async def test_a_boolean_parameter_is_true_or_false(app: App) -> None:
    """A value that is misread would delete what the caller wants to keep."""
    for value in ("yes", "1", "tru", "", _CANARY):
        _assert_problem(await app.call("DELETE", f"{_ONE}?keepWorkload={value}"), 400)
        _assert_problem(await app.call("DELETE", f"{_ONE}?dryRun={value}"), 400)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", f"{_ONE}?keepworkload=true"),
        ("GET", f"clusters?filter={_CANARY}"),
        ("GET", f"{_ONE}?filter={_CANARY}"),
    ],
)
async def test_an_unknown_parameter_is_refused(app: App, method: str, path: str) -> None:
    """A misspelled parameter must not be ignored: abuse case 10."""
    response = await app.call(method, path)
    _assert_problem(response, 400)
    assert path.partition("?")[2].partition("=")[0] in response.body["detail"]


async def test_the_key_may_be_in_the_query(app: App) -> None:
    response = await app.call("GET", f"clusters?code={app.host.keys.default}&clientId=default", key=None)
    assert response.status == 200


_FIELDS: Final[dict[str, dict[str, Any]]] = {
    **_HOSTILE["fields"],
    "two hubs": _OWN_HUB,
    "a long name": {"targets": [{"namespace": "a" * 64}]},
    "too many copies": {"workload": {"image": "registry.example/image", "replicas": 10**6}},
    # Too many: 14.
    "10,000 targets": {"targets": [{"namespace": f"n{n}"} for n in range(10_000)]},
    "501 targets": {"targets": [{"namespace": f"n{n}"} for n in range(501)]},
    "no targets": {"targets": []},
    "the same target twice": {"targets": [{}, {}]},
    "many service accounts": {"targets": [{"serviceAccounts": ["a"] * 1000}]},
    "many registries": {**_OWN_HUB, "hub": None, "registries": ["europe-docker.pkg.dev"] * 1000},
}


@pytest.mark.parametrize("fields", _FIELDS.values(), ids=_FIELDS)
async def test_a_hostile_field_is_refused(app: App, fields: dict[str, Any]) -> None:
    _assert_problem(await _post_cluster(app, **fields), 400)


@pytest.mark.parametrize("namespace", cases("names"))
async def test_a_name_that_kubernetes_refuses_is_refused(app: App, namespace: object) -> None:
    """Abuse case 12."""
    _assert_problem(await _post_cluster(app, targets=[{"namespace": namespace}]), 400)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *pairs("credential configurations"),
        *(("credential_source", one.values[0]) for one in cases("credential sources")),
        ("quota_project_id", "evil"),
        ("private_key", "evil"),
    ],
)
async def test_a_hostile_credential_configuration_is_refused(app: App, field: str, value: Any) -> None:
    """Something to run, to read or to fetch, or a host that is not Google's: abuse cases 7 and 8."""
    response = await _post_cluster(app, **{**_OWN_HUB, "hub": None, "credentialConfig": {**_CONFIG, field: value}})
    _assert_problem(response, 400)
    assert "169.254" not in response.text


@pytest.mark.parametrize("registry", cases("registries"))
async def test_a_registry_that_is_not_googles_is_refused(app: App, registry: str) -> None:
    """Abuse case 9: those that the model refuses."""
    own = {**_OWN_HUB, "hub": None, "registries": [registry], "probe": f"{registry}/project/repository/image"}
    response = await _post_cluster(app, **own)
    _assert_problem(response, 400)
    assert "evil" not in response.text


_BODIES: Final = {
    "nothing": b"",
    "no JSON": _CANARY.encode(),
    "half": b'{"cluster": ',
    "no object": b"[]",
    "null": b"null",
    "deep": b"[" * 100_000,
    "deep in a field": b'{"targets":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "no UTF-8": b'{"cluster":"\xff\xfe"}',
    "NaN": b'{"cluster":NaN}',
    "a lone surrogate": b'{"cluster":"\\ud800"}',
    "a long number": b'{"cluster":' + b"9" * 100_000 + b"}",
    "a long name": b'{"' + b"x" * 100_000 + b'":1}',
    "many names": json.dumps({f"field{n}": n for n in range(10_000)}).encode(),
}


@pytest.mark.parametrize("body", _BODIES.values(), ids=_BODIES)
async def test_a_body_that_is_not_a_json_object_is_refused(app: App, body: bytes) -> None:
    _assert_problem(await app.call("POST", "clusters", body), 400)


async def test_a_large_body_is_refused(app: App) -> None:
    """Abuse case 14."""
    for body in (b"x" * 10_000_000, json.dumps({"cluster": _CLUSTER, "x": "y" * 300_000}).encode()):
        _assert_problem(await app.call("POST", "clusters", body), 413)
    targets = [{"namespace": f"namespace-{n}", "secret": f"secret-{n}"} for n in range(10_000)]
    _assert_problem(await _post_cluster(app, targets=targets), 413)


async def test_a_secret_of_another_owner_is_not_overwritten(app: App) -> None:
    """Abuse case 13: without `adopt` the onboarding stops."""
    cluster = await app.add_cluster("aks-3")
    await cluster.admin.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "deepintshield"}})
    theirs = '{"auths":{"registry.example":{"auth":"eA=="}}}'
    await cluster.admin.create_secret("deepintshield", "ar-pull-secret", theirs)
    operation = await app.onboard(cluster)
    assert operation["status"] == "Failed"
    assert [step["category"] for step in operation["steps"] if step["status"] == "failed"] == ["secret_conflict"]
    assert await cluster.admin.read_auths("deepintshield", "ar-pull-secret") == json.loads(theirs)["auths"]


async def test_a_refused_request_starts_nothing(app: App) -> None:
    """No refused request has reached Azure."""
    for fields in (*_FIELDS.values(), {"cluster": None}):
        await _post_cluster(app, **fields)
    assert [write for write in app.world.cloud.arm.writes if "aks-1" in write.path] == []
    assert (await app.call("GET", _ONE)).status == 404
