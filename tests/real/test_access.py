"""What the app's identity can do in a cluster: with the app, everything it is for; in other hands, nothing else."""

from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from local.azure.entra import AKS
from local.cloud import LocalCluster
from pullkeeper.model import Target
from tests.contract.cluster import Cluster
from tests.contract.conversation import (
    APPLY,
    JSON_PATCH,
    MERGE,
    STRATEGIC,
    Answer,
    Caller,
    Json,
    pull_secret,
)
from tests.real.conftest import ACCOUNT, Join, pulled
from tests.world import MINUTE, World

_RULES = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
_RBAC = "/apis/rbac.authorization.k8s.io/v1"


@pytest_asyncio.fixture(loop_scope="session")
async def cluster(world: World, join: Join, admin: Caller, target: Target) -> LocalCluster:
    """With a secret of ours, one of another owner, and the service accounts of an application and of others."""
    cluster = await join()
    await world.refresh(cluster)
    here = f"/api/v1/namespaces/{target.namespace}"
    for path, body in {
        "secrets": pull_secret("other"),
        "serviceaccounts": {"metadata": {"name": ACCOUNT}},
        "serviceaccounts/": {"metadata": {"name": "other"}},
    }.items():
        assert (await admin.post(f"{here}/{path.rstrip('/')}", body)).status == 201
    return cluster


async def test_the_smallest_role_is_enough_for_the_whole_refresh(
    world: World, cluster: LocalCluster, admin: Caller, target: Target
) -> None:
    """Create, rotate, name the secret in the service account, heal: from the managed identity to the image."""
    await world.refresh(cluster, "manual")
    world.clock.advance(25 * MINUTE)
    await world.refresh(cluster)
    await cluster.admin.delete_secret(target.namespace, target.secret)
    status = await world.refresh(cluster)

    assert await pulled(world, cluster)
    account = await admin.get(f"/api/v1/namespaces/{target.namespace}/serviceaccounts/{ACCOUNT}")
    assert account.body["imagePullSecrets"] == [{"name": target.secret}]
    assert status.targets[str(target)].note is None
    assert status.targets[str(target)].state(world.clock()) == "fresh"


@pytest.mark.usefixtures("cluster")
async def test_the_server_itself_says_that_there_are_our_rules_and_no_others(
    world: World, people: Cluster, app: Caller, target: Target
) -> None:
    """Beyond what everybody has who can say who they are."""
    anybody = people.bearer(world.cloud.entra.token(world.cloud.entra.add_identity("anybody"), AKS))

    async def rules(who: Caller, namespace: str) -> tuple[list[Json], list[Json]]:
        """In an order of our own: the server's differs from call to call."""
        found = (await who.post(_RULES, {"spec": {"namespace": namespace}})).body["status"]
        assert found["incomplete"] is False
        return sorted(found["resourceRules"], key=str), sorted(found["nonResourceRules"], key=str)

    everybodys, paths = await rules(anybody, target.namespace)
    ours, our_paths = await rules(app, target.namespace)
    assert [rule for rule in ours if rule not in everybodys] == [
        {"verbs": ["get", "patch"], "apiGroups": [""], "resources": ["serviceaccounts"], "resourceNames": [ACCOUNT]},
        {"verbs": ["patch", "create"], "apiGroups": [""], "resources": ["secrets"], "resourceNames": [target.secret]},
    ]
    assert paths == our_paths
    for elsewhere in ("default", "kube-system"):
        assert await rules(app, elsewhere) == await rules(anybody, elsewhere)
    assert {"selfsubjectaccessreviews", "selfsubjectrulesreviews", "selfsubjectreviews"} == {
        resource for rule in everybodys for resource in rule["resources"]
    }


@dataclass(frozen=True, slots=True)
class Attempt:
    """path: below the target's namespace, or from the root."""

    method: str
    path: str
    body: Any = None
    content_type: str = "application/json"

    async def by(self, who: Caller, namespace: str) -> Answer:
        path = self.path if self.path.startswith("/") else f"/api/v1/namespaces/{namespace}/{self.path}"
        query = {"fieldManager": "pullkeeper"} if self.content_type == APPLY else {}
        return await who.send(self.method, path, self.body, content_type=self.content_type, **query)

    def __str__(self) -> str:
        return f"{self.method} {self.path}".replace("/", " ").replace("?", " ")


_OURS, _OTHER = "secrets/ar-pull-secret", "secrets/other"
_TOKEN = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
_REFERENCE = {"kind": "Role", "apiGroup": "rbac.authorization.k8s.io", "name": "pullkeeper-refresher"}
_POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "thief"},
    "spec": {"containers": [{"name": "thief", "image": "thief"}], "imagePullSecrets": [{"name": "ar-pull-secret"}]},
}
_SECRETS = (
    Attempt("GET", _OURS),
    Attempt("GET", _OTHER),
    Attempt("GET", "secrets"),
    Attempt("GET", "secrets?watch=true"),
    Attempt("GET", "secrets?fieldSelector=metadata.name%3Dar-pull-secret"),
    Attempt("GET", "secrets?watch=true&fieldSelector=metadata.name%3Dar-pull-secret"),
    Attempt("GET", "/api/v1/secrets"),
    Attempt("DELETE", _OURS),
    Attempt("DELETE", _OTHER),
    Attempt("DELETE", "secrets"),
    Attempt("PUT", _OURS, pull_secret()),
    Attempt("PUT", _OTHER, pull_secret("other")),
    # A POST to the collection names nothing yet when it is judged: so `create` on a name is for applies alone.
    Attempt("POST", "secrets", pull_secret()),
    Attempt("POST", "secrets", pull_secret("new")),
    Attempt("PATCH", _OTHER, pull_secret("other"), APPLY),
    Attempt("PATCH", "secrets/new", pull_secret("new"), APPLY),
    Attempt("PATCH", _OTHER, {"data": {}}, MERGE),
    Attempt("PATCH", _OTHER, {"data": {}}, STRATEGIC),
    Attempt("PATCH", _OTHER, [], JSON_PATCH),
    Attempt("PATCH", "/api/v1/namespaces/default/secrets/ar-pull-secret", pull_secret(), APPLY),
    Attempt("PATCH", "/api/v1/namespaces/kube-system/secrets/ar-pull-secret", pull_secret(), APPLY),
)
_ELSE = (
    Attempt("GET", "serviceaccounts"),
    Attempt("GET", "serviceaccounts/other"),
    Attempt("PATCH", "serviceaccounts/other", {"imagePullSecrets": []}, MERGE),
    Attempt("DELETE", f"serviceaccounts/{ACCOUNT}"),
    Attempt("POST", "serviceaccounts", {"metadata": {"name": "new"}}),
    Attempt("POST", f"serviceaccounts/{ACCOUNT}/token", _TOKEN),
    Attempt("GET", "pods"),
    Attempt("POST", "pods", _POD),
    Attempt("GET", "pods/web/log"),
    Attempt("GET", "pods/web/exec?command=sh"),
    Attempt("POST", "pods/web/exec?command=sh"),
    Attempt("POST", "pods/web/attach"),
    Attempt("POST", "pods/web/portforward"),
    Attempt("PATCH", "pods/web/ephemeralcontainers", {}, STRATEGIC),
    Attempt("GET", "configmaps"),
    Attempt("GET", "events"),
    Attempt("GET", "/api/v1/namespaces"),
    Attempt("POST", "/api/v1/namespaces", {"metadata": {"name": "new"}}),
    Attempt("GET", "/api/v1/nodes"),
    Attempt("GET", "/api/v1/nodes/node/proxy/pods"),
    Attempt("GET", "/apis/apps/v1/deployments"),
    Attempt("GET", f"{_RBAC}/clusterroles"),
    Attempt("POST", f"{_RBAC}/clusterrolebindings", {"metadata": {"name": "new"}, "roleRef": _REFERENCE}),
    Attempt("POST", "/apis/authentication.k8s.io/v1/tokenreviews", {"spec": {"token": "x"}}),
    Attempt("POST", "/apis/certificates.k8s.io/v1/certificatesigningrequests", {"metadata": {"name": "new"}}),
    Attempt("GET", "/metrics"),
    Attempt("GET", "/logs/"),
)


@pytest.mark.parametrize("kind", ["secrets", "else"])
async def test_everything_else_is_forbidden(cluster: LocalCluster, app: Caller, kind: str) -> None:
    attempts = {"secrets": _SECRETS, "else": _ELSE}[kind]
    namespace = cluster.target.namespace
    answers = {str(attempt): await attempt.by(app, namespace) for attempt in attempts}

    assert dict.fromkeys(answers, 403) == {name: answer.status for name, answer in answers.items()}
    assert {"Forbidden"} == {answer.body["reason"] for answer in answers.values()}


async def test_the_role_cannot_be_widened_by_its_holder(cluster: LocalCluster, app: Caller) -> None:
    namespace = cluster.target.namespace
    role = f"{_RBAC}/namespaces/{namespace}/roles/pullkeeper-refresher"
    wider = {"rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]}
    binding = {"metadata": {"name": "more"}, "roleRef": {**_REFERENCE, "kind": "ClusterRole", "name": "admin"}}
    attempts = (
        Attempt("GET", role),
        Attempt("PATCH", role, wider, MERGE),
        Attempt("DELETE", role),
        Attempt("POST", f"{_RBAC}/namespaces/{namespace}/rolebindings", binding),
    )
    assert [403] * len(attempts) == [(await attempt.by(app, namespace)).status for attempt in attempts]


async def test_nobody_can_be_impersonated(cluster: LocalCluster, app: Caller) -> None:
    url = f"{app.url}/api/v1/namespaces/{cluster.target.namespace}/secrets"
    headers = {"Authorization": f"Bearer {app.token}", "Impersonate-User": "masterclient"}
    async with app.session.get(url, headers=headers) as answer:
        assert answer.status == 403
        assert "cannot impersonate" in (await answer.json())["message"]
