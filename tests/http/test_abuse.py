"""What nobody should send to the routes of onboarding, and what it gets: through the host, as an attacker would.

Wrong tokens under Easy Auth (abuse case 1) never reach the app: the platform refuses them. Forged queue messages are
tested in tests/end_to_end, upstream errors that echo a token in tests/abuse.
"""

import base64
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import pytest
import pytest_asyncio

from local.azurite import Azurite
from local.cloud import GROUP, SUBSCRIPTION
from local.serving import Authority
from tests.http.conftest import Answer, App, hosted, path_of, wish

pytestmark = [pytest.mark.servers, pytest.mark.asyncio(loop_scope="module")]
_CANARY: Final = "c4n4ry"
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
_OWN_HUB: Final[dict[str, Any]] = {
    "credentialConfig": _CONFIG,
    "registries": ["europe-docker.pkg.dev"],
    "probe": "europe-docker.pkg.dev/project/repository/image",
}


def _is_problem(answer: Answer, status: int, category: str = "invalid_request") -> None:
    """With category and remedy, and without a word of what was sent."""
    assert answer.status == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert set(answer.body) == _PROBLEM
    assert (answer.body["status"], answer.body["category"]) == (status, category)
    assert answer.body["remedy"]
    assert len(answer.text) < 2000
    assert _CANARY not in answer.text


async def _posted(app: App, **wanted: Any) -> Answer:
    return await app.call("POST", "clusters", {"cluster": _CLUSTER, "hub": "main", **wanted})


_ROUTES: Final = [
    ("GET", "clusters"),
    ("POST", "clusters"),
    ("GET", _ONE),
    ("DELETE", _ONE),
    ("GET", f"operations/{'0' * 32}"),
    ("GET", "handover"),
    ("GET", "openapi.json"),
    ("POST", "refresh"),
    ("POST", f"{_ONE}/refresh"),
]


@pytest.mark.parametrize(("method", "path"), _ROUTES)
async def test_without_the_key_nothing_opens(app: App, method: str, path: str) -> None:
    """A forged principal is no key either: abuse cases 1 and 18."""
    forged = _principal("Pullkeeper.Onboard", "Pullkeeper.Read")
    for key in (None, "wrong", app.host.keys.default[:-1], app.host.keys.default + "="):
        assert (await app.call(method, path, key=key, headers=forged)).status == 401


def _principal(*roles: str, kind: str = "roles") -> dict[str, str]:
    """The header that Easy Auth adds."""
    return _header({"auth_typ": "aad", "role_typ": "roles", "claims": [{"typ": kind, "val": role} for role in roles]})


def _header(principal: object) -> dict[str, str]:
    return {"X-MS-CLIENT-PRINCIPAL": base64.b64encode(json.dumps(principal).encode()).decode()}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guarded(request: pytest.FixtureRequest, azurite: Azurite, authority: Authority) -> AsyncIterator[App]:
    """Where the platform says that callers sign in with Entra."""
    name = f"{request.node.nodeid}-guarded"
    async with hosted(name, azurite, authority, WEBSITE_AUTH_ENABLED="True") as made:
        yield made


_NO_ROLE: Final[dict[str, Mapping[str, str]]] = {
    "missing": {},
    "empty": {"X-MS-CLIENT-PRINCIPAL": ""},
    "no base64": {"X-MS-CLIENT-PRINCIPAL": "~~~"},
    "no JSON": {"X-MS-CLIENT-PRINCIPAL": base64.b64encode(b"Pullkeeper.Onboard").decode()},
    "a name alone": {"X-MS-CLIENT-PRINCIPAL-NAME": "admin", "X-MS-CLIENT-PRINCIPAL-ID": "admin"},
    "another shape": _header([["Pullkeeper.Onboard"]]),
    "claims of another shape": _header({"claims": "Pullkeeper.Onboard"}),
    "claims without values": _header({"claims": [{"typ": "roles"}]}),
    "a value of another shape": _header({"claims": [{"typ": "roles", "val": ["Pullkeeper.Onboard"]}]}),
    "deep": {"X-MS-CLIENT-PRINCIPAL": base64.b64encode(b"[" * 5000).decode()},
    "no roles": _principal(),
    "another role": _principal("Pullkeeper.Reader", "pullkeeper.onboard"),
    "a role in another claim": _principal("Pullkeeper.Onboard", "Pullkeeper.Read", kind="name"),
}


@pytest.mark.parametrize("principal", _NO_ROLE.values(), ids=_NO_ROLE)
@pytest.mark.parametrize(("method", "path"), [("GET", "clusters"), ("POST", "clusters"), ("DELETE", _ONE)])
async def test_who_has_no_role_gets_nothing(guarded: App, principal: Mapping[str, str], method: str, path: str) -> None:
    """Though signed in, or pretending to be: abuse case 2."""
    answer = await guarded.call(method, path, headers=principal)
    _is_problem(answer, 403, answer.body["category"])


async def test_a_refusal_is_logged(guarded: App) -> None:
    await guarded.call("POST", "refresh")
    assert "refused: POST needs the app role Pullkeeper.Onboard" in guarded.host.said


async def test_the_right_role_opens(guarded: App) -> None:
    """And the role that reads does not onboard."""
    reader, onboarder = _principal("Pullkeeper.Read"), _principal("Pullkeeper.Onboard")
    assert (await guarded.call("GET", "clusters", headers=reader)).status == 200
    assert (await guarded.call("POST", "refresh", headers=onboarder)).status == 202
    cluster = await guarded.cluster("aks-2")
    for method, path, body in (("POST", "clusters", wish(cluster)), ("DELETE", path_of(cluster), None)):
        refused = await guarded.call(method, path, body, headers=reader)
        _is_problem(refused, 403, refused.body["category"])
    begun = await guarded.call("POST", "clusters", wish(cluster), headers=onboarder)
    assert begun.status == 202
    assert (await guarded.call("GET", begun.headers["Location"], headers=reader)).status == 200
    # The longest claim type that Entra writes, named by the principal itself.
    long = "http://schemas.microsoft.com/ws/2008/06/identity/claims/role"
    named = _header({"role_typ": long, "claims": [{"typ": long, "val": "Pullkeeper.Read"}]})
    assert (await guarded.call("GET", "clusters", headers=named)).status == 200


@pytest.mark.parametrize(
    ("subscription", "group"),
    [
        (SUBSCRIPTION, "another"),
        (SUBSCRIPTION, GROUP[:-1]),
        (SUBSCRIPTION, f"{GROUP}-2"),
        (SUBSCRIPTION.replace("5eed", "5eee"), GROUP),
    ],
)
async def test_what_is_not_on_the_list_is_not_onboarded(app: App, subscription: str, group: str) -> None:
    """Another team's cluster: abuse cases 3 and 6. Nor is it offboarded."""
    refused = await _posted(app, cluster=_ARM.format(subscription, group, "aks-1"))
    assert (refused.status, "ONBOARDING_SCOPES" in refused.body["detail"]) == (403, True)
    assert (await app.call("DELETE", f"clusters/{subscription}/{group}/aks-1")).status == 403


async def test_by_default_nothing_is_on_the_list(
    request: pytest.FixtureRequest, azurite: Azurite, authority: Authority
) -> None:
    async with hosted(request.node.nodeid, azurite, authority, ONBOARDING_SCOPES="") as app:
        assert (await _posted(app)).status == 403


_CLUSTERS: Final = [
    _ARM.format("not-a-guid", GROUP, "aks-1"),
    _ARM.format(SUBSCRIPTION, "..", "aks-1"),
    _ARM.format(SUBSCRIPTION, f"{GROUP}/../{_CANARY}", "aks-1"),
    _ARM.format(SUBSCRIPTION, f"{GROUP}%2f..%2f{_CANARY}", "aks-1"),
    _ARM.format(SUBSCRIPTION, f"{GROUP}' or '1' eq '1", "aks-1"),
    _ARM.format(SUBSCRIPTION, GROUP, f"aks-1/agentPools/{_CANARY}"),
    _ARM.format(SUBSCRIPTION, GROUP, f"aks-1?api-version={_CANARY}"),
    _ARM.format(SUBSCRIPTION, GROUP, "aks-1\n"),
    _CLUSTER + "/",
    "/" + _CLUSTER,
    f"https://management.azure.com{_CLUSTER}",
    _CLUSTER.replace("ContainerService", "Compute"),
    _CLUSTER.replace("managedClusters", "managedclusters/.."),
    f"/subscriptions/{SUBSCRIPTION}",
    "",
    None,
    7,
    {"id": _CLUSTER},
    [_CLUSTER],
]


@pytest.mark.parametrize("cluster", _CLUSTERS, ids=range(len(_CLUSTERS)))
async def test_what_is_no_id_of_a_cluster_is_refused(app: App, cluster: object) -> None:
    """Abuse cases 5 and 6."""
    _is_problem(await _posted(app, cluster=cluster), 400)


@pytest.mark.parametrize(
    "part",
    ["%2e%2e", "a%2fb", "a%2f..%2fb", "a%5cb", "a'%20or%20'1'%20eq%20'1", "a|b", "a%00", "%25252e", "a" * 91],
)
@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_routes_take_names_only(app: App, method: str, part: str) -> None:
    """Traversal, and injection into table keys: abuse cases 5 and 15. A dot segment never gets as far as the app."""
    for path in (
        f"clusters/{SUBSCRIPTION}/{part}/aks-1",
        f"clusters/{SUBSCRIPTION}/{GROUP}/{part}",
        f"clusters/{part}/{GROUP}/aks-1",
    ):
        answer = await app.call(method, path)
        if part == "%2e%2e":
            assert (answer.status, answer.text) == (404, "")
        else:
            _is_problem(answer, 400)


@pytest.mark.parametrize(
    "extra", ["/agentPools", "/refresh/x", "//refresh/x", "/%2e%2e/%2e%2e/%2e%2e/%2e%2e/admin/host"]
)
async def test_extra_segments_lead_nowhere(app: App, extra: str) -> None:
    assert (await app.call("GET", _ONE + extra)).status == 404


@pytest.mark.parametrize(
    "operation",
    ["x", "0" * 31, "0" * 33, "0" * 31 + "'", f"{'0' * 32}'%20or%20'", "a%2fb", "%00", "A" * 32, "%23", "%3f"],
)
async def test_what_is_no_id_of_an_operation_is_refused(app: App, operation: str) -> None:
    _is_problem(await app.call("GET", f"operations/{operation}"), 400)


def _packed(token: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(token).encode()).decode()


_CONTINUATIONS: Final = {
    "no base64": "~~~",
    "no JSON": base64.urlsafe_b64encode(b"nothing").decode(),
    "empty": "",
    "an array": _packed([_CANARY]),
    "text": _packed("PartitionKey"),
    "half": _packed({"PartitionKey": "a"}),
    "filter": _packed({"PartitionKey": f"a' or PartitionKey ne '{_CANARY}", "RowKey": "b"}),
    "more parameters": _packed({"PartitionKey": f"a&$filter={_CANARY}", "RowKey": "b"}),
    "a header": _packed({"PartitionKey": "a\r\nX-Evil: yes", "RowKey": "b"}),
    "objects": _packed({"PartitionKey": {"a": _CANARY}, "RowKey": []}),
    "control characters": _packed({"PartitionKey": "\0", "RowKey": "\x7f"}),
    "deep": base64.urlsafe_b64encode(b"[" * 4000).decode(),
}


@pytest.mark.parametrize("continuation", _CONTINUATIONS.values(), ids=_CONTINUATIONS)
async def test_a_continuation_is_what_the_page_before_gave(app: App, continuation: str) -> None:
    """Or it is refused: abuse case 15."""
    _is_problem(await app.call("GET", f"clusters?continuation={continuation}"), 400)


@pytest.mark.parametrize("query", ["state=", f"state={_CANARY}", "state=fresh'", "state=fresh&state=stale"])
async def test_a_state_is_one_of_those_there_are(app: App, query: str) -> None:
    _is_problem(await app.call("GET", f"clusters?{query}"), 400)


@pytest.mark.parametrize("hub", [_CANARY, "main%00", "..", "", "main,main"])
async def test_a_hub_is_one_of_those_there_are(app: App, hub: str) -> None:
    _is_problem(await app.call("GET", f"handover?hub={hub}"), 400)
    _is_problem(await _posted(app, hub=hub or "-"), 400)


async def test_keep_workload_is_yes_or_no(app: App) -> None:
    """What is misread here deletes what somebody wanted to keep."""
    for value in ("yes", "1", "tru", "", _CANARY):
        _is_problem(await app.call("DELETE", f"{_ONE}?keepWorkload={value}"), 400)
        _is_problem(await app.call("DELETE", f"{_ONE}?dryRun={value}"), 400)


@pytest.mark.parametrize(
    ("method", "path"),
    [("DELETE", f"{_ONE}?keepworkload=true"), ("GET", f"clusters?filter={_CANARY}"), ("GET", f"{_ONE}?{_CANARY}=1")],
)
async def test_what_a_query_does_not_take_is_refused(app: App, method: str, path: str) -> None:
    """A misspelt wish must not go unheard: abuse case 10."""
    _is_problem(await app.call(method, path), 400)


async def test_the_key_may_stand_in_the_query(app: App) -> None:
    answer = await app.call("GET", f"clusters?code={app.host.keys.default}&clientId=default", key=None)
    assert answer.status == 200


_FIELDS: Final[dict[str, dict[str, Any]]] = {
    # The API server's address is Azure's to tell: abuse case 4; other fields: 10.
    "a server": {"server": f"https://{_CANARY}.example"},
    "an endpoint": {"endpoint": {"server": f"https://{_CANARY}.example", "ca": ""}},
    "a kubeconfig": {"kubeconfig": _CANARY},
    "a privilege": {"force": True},
    "a setting": {"onboardingScopes": _CANARY},
    "a field in a target": {"targets": [{"namespace": "a", "privileged": True}]},
    "another audience": {"audience": f"api://{_CANARY}"},
    "a yes that is text": {"adopt": "yes"},
    "a yes that is a number": {"dryRun": 1},
    "two hubs": _OWN_HUB,
    # Where Kubernetes runs itself: 11.
    **{
        name: {"targets": [{"namespace": name}]}
        for name in ("kube-system", "kube-public", "gatekeeper-system", "aks-command", "azure-arc", "calico-system")
    },
    # What Kubernetes takes for no name, 12.
    **{
        f"name {name!r}": {"targets": [{"namespace": name}]}
        for name in (
            "A",
            "a_b",
            "-a",
            "a-",
            "a.b",
            "a" * 64,
            "a\n",
            "a\nb",
            "a/b",
            "..",
            "",
            " a",
            "ä",
            "\u0661",
            None,
            1,
            ["a"],
        )
    },
    "a secret's name": {"targets": [{"secret": f"{_CANARY}\n---\nkind: Pod"}]},
    "a secret in another place": {"targets": [{"secret": f"../../kube-system/secrets/{_CANARY}"}]},
    "a service account's name": {"targets": [{"serviceAccounts": ["default\n"]}]},
    "an identity's name": {"identity": "../../another/identity"},
    "an identity in another place": {"identity": f"id?x={_CANARY}"},
    "a federated credential's name": {"federatedCredential": "a\nb"},
    "an image": {"workload": {"image": "registry.example/a b"}},
    "an image with a line more": {"workload": {"image": "registry.example/image\nprivileged: true"}},
    "a secret for the workload": {"workload": {"image": "registry.example/image", "configSecret": "A"}},
    "too many copies": {"workload": {"image": "registry.example/image", "replicas": 10**6}},
    # More than anybody needs, 14.
    "10,000 targets": {"targets": [{"namespace": f"n{n}"} for n in range(10_000)]},
    "no targets": {"targets": []},
    "the same target twice": {"targets": [{}, {}]},
    "many service accounts": {"targets": [{"serviceAccounts": ["a"] * 1000}]},
    "many registries": {**_OWN_HUB, "hub": None, "registries": ["europe-docker.pkg.dev"] * 1000},
}


@pytest.mark.parametrize("wanted", _FIELDS.values(), ids=_FIELDS)
async def test_what_should_not_be_asked_for_is_refused(app: App, wanted: dict[str, Any]) -> None:
    _is_problem(await _posted(app, **wanted), 400)


_CONFIGS: Final[dict[str, dict[str, Any]]] = {
    "an executable": {"credential_source": {"executable": {"command": f"/bin/{_CANARY}"}}},
    "a url": {"credential_source": {"url": f"http://169.254.169.254/{_CANARY}"}},
    "aws": {"credential_source": {"environment_id": "aws1", "region_url": f"http://{_CANARY}"}},
    "a certificate": {"credential_source": {"certificate": {"use_default_certificate_config": True}}},
    "a key": {"type": "service_account", "private_key": _CANARY},
    "a user": {"type": "authorized_user", "refresh_token": _CANARY},
    "a foreign token url": {"token_url": f"https://{_CANARY}.example/v1/token"},
    "a lookalike token url": {"token_url": f"https://sts.googleapis.com.{_CANARY}.example/v1/token"},
    "a token url with a user": {"token_url": f"https://sts.googleapis.com@{_CANARY}.example/v1/token"},
    "a token url in clear": {"token_url": "http://sts.googleapis.com/v1/token"},
    "the metadata address": {"token_url": "http://169.254.169.254/v1/token"},
    "a foreign impersonation url": {
        "service_account_impersonation_url": f"https://{_CANARY}.example/v1/projects/-/serviceAccounts"
        "/puller@project-1.iam.gserviceaccount.com:generateAccessToken"
    },
    "another audience": {"audience": f"https://{_CANARY}.example"},
    "an audience with a line more": {"audience": _CONFIG["audience"] + f"\n{_CANARY}"},
    "another token": {"subject_token_type": "urn:ietf:params:oauth:token-type:saml2"},
    "another universe": {"universe_domain": f"{_CANARY}.example"},
    "an unknown field": {"quota_project_id": _CANARY},
}


@pytest.mark.parametrize("config", _CONFIGS.values(), ids=_CONFIGS)
async def test_a_credential_configuration_leads_to_google_only(app: App, config: dict[str, Any]) -> None:
    """And names nothing to be run, read or fetched: abuse cases 7 and 8."""
    _is_problem(await _posted(app, **{**_OWN_HUB, "hub": None, "credentialConfig": {**_CONFIG, **config}}), 400)


@pytest.mark.parametrize(
    "registry",
    [
        f"europe-docker.pkg.dev.{_CANARY}.example",
        f"{_CANARY}.example",
        f"{_CANARY}@europe-docker.pkg.dev",
        f"europe-docker.pkg.dev@{_CANARY}.example",
        "europe-docker.pkg.dev:8443",
        "europe-docker.pkg.dev/path",
        "https://europe-docker.pkg.dev",
        "europe-docker.pkg.dev\n",
        "еurope-docker.pkg.dev",  # noqa: RUF001 - its first letter is a Cyrillic one: that is the case
        "xn--europe-docker.pkg.dev.example",
        "EUROPE-docker.pkg.dev",
        "gcr.io.example",
        "",
    ],
)
async def test_a_registry_is_one_of_googles(app: App, registry: str) -> None:
    """Abuse case 9."""
    own = {**_OWN_HUB, "hub": None, "registries": [registry], "probe": f"{registry}/project/repository/image"}
    _is_problem(await _posted(app, **own), 400)


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
async def test_a_body_is_a_small_json_object(app: App, body: bytes) -> None:
    _is_problem(await app.call("POST", "clusters", body), 400)


async def test_a_large_body_is_too_large(app: App) -> None:
    """Abuse case 14."""
    for body in (b"x" * 10_000_000, json.dumps({"cluster": _CLUSTER, "x": "y" * 300_000}).encode()):
        _is_problem(await app.call("POST", "clusters", body), 413)
    targets = [{"namespace": f"namespace-{n}", "secret": f"secret-{n}"} for n in range(10_000)]
    _is_problem(await _posted(app, targets=targets), 413)


async def test_somebodys_secret_is_never_overwritten(app: App) -> None:
    """Abuse case 13: without `adopt` it stops, and says whose it is."""
    cluster = await app.cluster("aks-3")
    await cluster.admin.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "deepintshield"}})
    theirs = '{"auths":{"registry.example":{"auth":"eA=="}}}'
    await cluster.admin.create_secret("deepintshield", "ar-pull-secret", theirs)
    ended = await app.onboarded(cluster)
    assert ended["status"] == "Failed"
    assert [step["category"] for step in ended["steps"] if step["status"] == "failed"] == ["secret_conflict"]
    assert await cluster.admin.read_auths("deepintshield", "ar-pull-secret") == json.loads(theirs)["auths"]


async def test_nothing_of_all_this_was_begun(app: App) -> None:
    """Whatever was refused has not come as far as Azure."""
    for wanted in (*_FIELDS.values(), {"cluster": None}):
        await _posted(app, **wanted)
    assert [write for write in app.world.cloud.arm.writes if "aks-1" in write.path] == []
    assert (await app.call("GET", _ONE)).status == 404
