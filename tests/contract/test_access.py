"""Who gets in, and what the smallest role allows."""

from datetime import timedelta

import pytest

from local.azure.entra import Entra, Identity
from local.clock import Clock
from local.kubernetes.apiserver import AKS_SERVER_APPLICATION
from tests.contract.cluster import Cluster
from tests.contract.conversation import (
    METADATA_ONLY,
    Caller,
    Json,
    bare,
    pull_secret,
    recorded,
)

NAMED = {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["ar-pull-secret"]}
UNAUTHORIZED = recorded("unauthorized")
ACCESS_REVIEW = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


def forbidden(user: str, verb: str, namespace: str, name: str | None = "ar-pull-secret") -> Json:
    if name is None:
        return recorded("forbidden-unnamed", user=user, verb=verb, namespace=namespace)
    return recorded("forbidden", user=user, verb=verb, namespace=namespace, name=name)


@pytest.mark.parametrize(
    ("method", "path", "verb", "name"),
    [
        ("GET", "/ar-pull-secret", "get", "ar-pull-secret"),
        ("DELETE", "/ar-pull-secret", "delete", "ar-pull-secret"),
        ("GET", "", "list", None),
    ],
)
async def test_nothing_is_allowed_without_a_role(
    app: Caller,
    identity: Identity,
    namespace: str,
    secrets: str,
    *,
    method: str,
    path: str,
    verb: str,
    name: str | None,
) -> None:
    answer = await app.send(method, secrets + path)

    assert answer.status == 403
    assert answer.body == forbidden(identity.principal_id, verb, namespace, name)


async def test_writing_is_not_allowed_without_a_role(
    app: Caller, identity: Identity, namespace: str, secrets: str
) -> None:
    applied = await app.apply(f"{secrets}/ar-pull-secret", pull_secret())
    posted = await app.post(secrets, pull_secret())

    assert (applied.status, posted.status) == (403, 403)
    assert applied.body == forbidden(identity.principal_id, "patch", namespace)
    assert posted.body == forbidden(identity.principal_id, "create", namespace, name=None)


async def test_listing_the_whole_cluster_is_not_allowed_without_a_role(app: Caller, identity: Identity) -> None:
    answer = await app.get("/api/v1/secrets")

    assert answer.status == 403
    assert answer.body == recorded("forbidden-unnamed-in-cluster", user=identity.principal_id, verb="list")


async def test_patch_on_one_name_updates_it_and_nothing_else(
    cluster: Cluster, app: Caller, identity: Identity, namespace: str, secrets: str
) -> None:
    await cluster.grant(namespace, identity, {**NAMED, "verbs": ["patch"]})
    await cluster.admin.apply(f"{secrets}/ar-pull-secret", pull_secret(token="one"))

    updated = await app.apply(f"{secrets}/ar-pull-secret", pull_secret(token="two"))
    looked = await app.apply(
        f"{secrets}/ar-pull-secret", bare(), manager="pullkeeper-diagnosis", dryRun="All", accept=METADATA_ONLY
    )
    other = await app.apply(f"{secrets}/other", pull_secret("other"))
    read = await app.get(f"{secrets}/ar-pull-secret")
    listed = await app.get(secrets)

    assert (updated.status, looked.status) == (200, 200)
    assert (other.status, read.status, listed.status) == (403, 403, 403)
    assert other.body == forbidden(identity.principal_id, "patch", namespace, "other")
    assert read.body == forbidden(identity.principal_id, "get", namespace)
    assert listed.body == forbidden(identity.principal_id, "list", namespace, name=None)


async def test_apply_that_would_create_needs_create_as_well(
    cluster: Cluster, app: Caller, identity: Identity, namespace: str, secrets: str
) -> None:
    await cluster.grant(namespace, identity, {**NAMED, "verbs": ["patch"]})
    answer = await app.apply(f"{secrets}/ar-pull-secret", pull_secret())
    looked = await app.apply(f"{secrets}/ar-pull-secret", bare(), dryRun="All")

    assert (answer.status, looked.status) == (403, 403)
    assert answer.body == forbidden(identity.principal_id, "create", namespace)
    assert looked.body == forbidden(identity.principal_id, "create", namespace)


async def test_create_can_be_limited_to_a_name_under_apply(
    cluster: Cluster, app: Caller, identity: Identity, namespace: str, secrets: str
) -> None:
    await cluster.grant(namespace, identity, {**NAMED, "verbs": ["patch", "create"]})
    other = await app.apply(f"{secrets}/other", pull_secret("other"))
    posted = await app.post(secrets, pull_secret())
    created = await app.apply(f"{secrets}/ar-pull-secret", pull_secret())

    assert created.status == 201
    assert other.status == 403
    assert other.body == forbidden(identity.principal_id, "patch", namespace, "other")
    assert posted.status == 403
    assert posted.body == forbidden(identity.principal_id, "create", namespace, name=None)


async def test_a_call_without_a_token_is_anonymous(cluster: Cluster, namespace: str, secrets: str) -> None:
    answer = await cluster.stranger.apply(f"{secrets}/ar-pull-secret", pull_secret())

    assert answer.status == 403
    assert answer.body == forbidden("system:anonymous", "patch", namespace)


async def test_a_token_of_another_audience_is_refused(
    cluster: Cluster, entra: Entra, identity: Identity, secrets: str
) -> None:
    caller = cluster.bearer(entra.token(identity, "https://management.azure.com/"))
    answer = await caller.apply(f"{secrets}/ar-pull-secret", pull_secret())

    assert answer.status == 401
    assert answer.body == UNAUTHORIZED


async def test_an_expired_token_is_refused(cluster: Cluster, entra: Entra, identity: Identity, secrets: str) -> None:
    caller = cluster.bearer(entra.token(identity, AKS_SERVER_APPLICATION, lifetime=timedelta(seconds=-5)))
    answer = await caller.apply(f"{secrets}/ar-pull-secret", pull_secret())

    assert answer.status == 401
    assert answer.body == UNAUTHORIZED


async def test_another_tenant_is_refused(cluster: Cluster, identity: Identity, secrets: str) -> None:
    stranger = Entra(Clock())
    caller = cluster.bearer(stranger.token(identity, AKS_SERVER_APPLICATION))
    answer = await caller.get(secrets)

    assert answer.status == 401
    assert answer.body == UNAUTHORIZED


@pytest.mark.parametrize("token", ["garbage", "a.b.c"])
async def test_a_malformed_token_is_refused(cluster: Cluster, secrets: str, token: str) -> None:
    answer = await cluster.bearer(token).get(secrets)

    assert answer.status == 401
    assert answer.body == UNAUTHORIZED


@pytest.mark.parametrize(("verb", "allowed"), [("patch", True), ("get", False)])
async def test_an_access_review_answers_for_the_caller(
    cluster: Cluster, app: Caller, identity: Identity, namespace: str, verb: str, *, allowed: bool
) -> None:
    await cluster.grant(namespace, identity, {**NAMED, "verbs": ["patch"]})
    attributes = {"namespace": namespace, "verb": verb, "resource": "secrets", "name": "ar-pull-secret"}
    answer = await app.post(ACCESS_REVIEW, {"spec": {"resourceAttributes": attributes}})

    assert answer.status == 201
    assert answer.body["spec"] == {"resourceAttributes": attributes}
    assert answer.body["status"]["allowed"] is allowed
