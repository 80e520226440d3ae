"""What the app's identity can do in a cluster: with the app, everything it is for; in other hands, nothing else."""

from pathlib import Path

import pytest
import pytest_asyncio

from local.azure.entra import AKS
from local.cloud import LocalCluster
from pullkeeper.model import Target
from tests.contract.cluster import Cluster
from tests.contract.conversation import (
    Caller,
    Json,
    pull_secret,
)
from tests.contract.script import Stage, load
from tests.real.conftest import ACCOUNT, Join, pulled
from tests.world import MINUTE, World

_RULES = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
_FORBIDDEN = load("forbidden.yaml", Path(__file__).parent)


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


@pytest.mark.parametrize("kind", _FORBIDDEN)
async def test_everything_else_is_forbidden(cluster: LocalCluster, world: World, people: Cluster, kind: str) -> None:
    stage, steps = Stage(people, world.cloud.app, cluster.target.namespace), _FORBIDDEN[kind]
    answers = await stage.send(steps, "app")

    assert [(403, "Forbidden", step) for step in steps] == [
        (answer.status, answer.body["reason"], step) for answer, step in zip(answers, steps, strict=True)
    ]


async def test_nobody_can_be_impersonated(cluster: LocalCluster, app: Caller) -> None:
    url = f"{app.url}/api/v1/namespaces/{cluster.target.namespace}/secrets"
    headers = {"Authorization": f"Bearer {app.token}", "Impersonate-User": "masterclient"}
    async with app.session.get(url, headers=headers) as answer:
        assert answer.status == 403
        assert "cannot impersonate" in (await answer.json())["message"]
