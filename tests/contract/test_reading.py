"""Discovery, lists and pages, and the representations that an answer can have."""

import pytest

from tests.contract.conversation import METADATA_ONLY, Caller, Json, bare, failure, pull_secret, settled

METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"


async def five_secrets(human: Caller, secrets: str) -> None:
    for name in "abcde":
        labels = {"letter": name, "odd": "yes" if name in "ace" else "no"}
        body = {"metadata": {"name": name, "labels": labels}, "type": f"example.com/{name}"}
        assert (await human.post(secrets, body)).status == 201


def names(body: Json) -> list[str]:
    return [item["metadata"]["name"] for item in body["items"]]


async def test_pages(human: Caller, secrets: str) -> None:
    await five_secrets(human, secrets)
    pages: list[Json] = []
    token = ""
    while not pages or token:
        answer = await human.get(secrets, limit=2, **({"continue": token} if token else {}))
        assert answer.status == 200
        pages.append(answer.body)
        token = answer.body["metadata"].get("continue", "")

    assert [names(page) for page in pages] == [["a", "b"], ["c", "d"], ["e"]]
    assert [page["metadata"].get("remainingItemCount") for page in pages] == [3, 1, None]
    assert len({page["metadata"]["resourceVersion"] for page in pages}) == 1


async def test_a_page_is_of_one_moment(human: Caller, secrets: str) -> None:
    """What is deleted or made between two pages is on the second as it was at the first."""
    await five_secrets(human, secrets)
    first = await human.get(secrets, limit=4)
    await human.delete(f"{secrets}/e")
    await human.post(secrets, bare("f"))
    second = await human.get(secrets, limit=4, **{"continue": first.body["metadata"]["continue"]})

    assert names(second.body) == ["e"]


async def test_a_continue_token_that_is_none(human: Caller, secrets: str) -> None:
    answer = await human.get(secrets, limit=2, **{"continue": "garbage"})

    assert answer.status == 400
    assert answer.body["reason"] == "BadRequest"
    assert answer.body["message"].startswith("invalid continue token: ")


async def test_items_of_a_list_do_not_repeat_their_kind(human: Caller, secrets: str) -> None:
    await five_secrets(human, secrets)
    body = (await human.get(secrets)).body

    assert body["kind"] == "SecretList"
    assert body["apiVersion"] == "v1"
    assert names(body) == ["a", "b", "c", "d", "e"]
    assert {"kind", "apiVersion"}.isdisjoint(body["items"][0])


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ({"labelSelector": "letter in (a,b),odd=yes"}, ["a"]),
        ({"labelSelector": "odd!=yes"}, ["b", "d"]),
        ({"labelSelector": "letter"}, ["a", "b", "c", "d", "e"]),
        ({"labelSelector": "!letter"}, []),
        ({"fieldSelector": "metadata.name=c"}, ["c"]),
        ({"fieldSelector": "type=example.com/d"}, ["d"]),
    ],
)
async def test_selectors(human: Caller, secrets: str, selector: dict[str, str], expected: list[str]) -> None:
    await five_secrets(human, secrets)
    answer = await human.get(secrets, **selector)

    assert answer.status == 200
    assert names(answer.body) == expected


async def test_a_page_of_a_selection_does_not_know_what_remains(human: Caller, secrets: str) -> None:
    await five_secrets(human, secrets)
    answer = await human.get(secrets, labelSelector="odd=yes", limit=2)

    assert names(answer.body) == ["a", "c"]
    assert "continue" in answer.body["metadata"]
    assert "remainingItemCount" not in answer.body["metadata"]


@pytest.mark.parametrize(
    ("selector", "complaint"),
    [
        (
            {"labelSelector": "a b"},
            "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt",
        ),
        ({"fieldSelector": "data.x=d"}, "field label not supported: data.x"),
        ({"limit": "x"}, 'strconv.ParseInt: parsing "x": invalid syntax'),
    ],
)
async def test_selectors_that_are_none(human: Caller, secrets: str, selector: dict[str, str], complaint: str) -> None:
    answer = await human.get(secrets, **selector)

    assert answer.status == 400
    assert answer.body == failure(400, "BadRequest", complaint)


async def test_metadata_alone_of_one(human: Caller, secrets: str) -> None:
    await human.apply(f"{secrets}/ar-pull-secret", pull_secret())
    whole = settled((await human.get(f"{secrets}/ar-pull-secret")).body)
    answer = await human.get(f"{secrets}/ar-pull-secret", accept=METADATA_ONLY)

    assert answer.status == 200
    assert settled(answer.body) == {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": whole["metadata"],
    }


async def test_metadata_alone_of_many(human: Caller, secrets: str) -> None:
    await five_secrets(human, secrets)
    body = (await human.get(secrets, accept=METADATA_LIST, limit=2)).body

    assert body["kind"] == "PartialObjectMetadataList"
    assert body["apiVersion"] == "meta.k8s.io/v1"
    assert names(body) == ["a", "b"]
    assert {item["kind"] for item in body["items"]} == {"PartialObjectMetadata"}
    assert set(body["items"][0]) == {"kind", "apiVersion", "metadata"}


async def test_a_representation_that_there_is_not(human: Caller, secrets: str) -> None:
    answer = await human.get(secrets, accept="text/html")

    assert answer.status == 406
    assert answer.body["reason"] == "NotAcceptable"
    assert answer.body["message"].startswith("406: Not Acceptable")


@pytest.mark.parametrize("path", ["/nonsense", "/apis/nonsense.example.com/v1"])
async def test_an_address_that_there_is_not(human: Caller, path: str) -> None:
    answer = await human.get(path)

    assert answer.status == 404
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.text == "404 page not found\n"


async def test_a_resource_that_there_is_not(human: Caller, namespace: str) -> None:
    answer = await human.get(f"/api/v1/namespaces/{namespace}/nonsense")

    assert answer.status == 404
    assert answer.body == failure(404, "NotFound", "the server could not find the requested resource") | {"details": {}}


async def test_a_method_that_there_is_not(human: Caller, secrets: str) -> None:
    answer = await human.put(secrets, {})

    assert answer.status == 405
    assert answer.body == failure(
        405, "MethodNotAllowed", "the server does not allow this method on the requested resource"
    ) | {"details": {}}


VERBS = {"create", "delete", "get", "list", "patch", "update"}
"""What anybody here asks for. The stand-in has no watch, and does not pretend to."""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/api/v1", {"name": "secrets", "singularName": "secret", "namespaced": True, "kind": "Secret"}),
        (
            "/api/v1",
            {
                "name": "serviceaccounts",
                "singularName": "serviceaccount",
                "namespaced": True,
                "kind": "ServiceAccount",
                "shortNames": ["sa"],
            },
        ),
        (
            "/api/v1",
            {
                "name": "configmaps",
                "singularName": "configmap",
                "namespaced": True,
                "kind": "ConfigMap",
                "shortNames": ["cm"],
            },
        ),
        (
            "/apis/rbac.authorization.k8s.io/v1",
            {"name": "roles", "singularName": "role", "namespaced": True, "kind": "Role"},
        ),
        (
            "/apis/rbac.authorization.k8s.io/v1",
            {"name": "rolebindings", "singularName": "rolebinding", "namespaced": True, "kind": "RoleBinding"},
        ),
        (
            "/apis/batch/v1",
            {
                "name": "cronjobs",
                "singularName": "cronjob",
                "namespaced": True,
                "kind": "CronJob",
                "shortNames": ["cj"],
                "categories": ["all"],
            },
        ),
        (
            "/apis/apps/v1",
            {
                "name": "deployments",
                "singularName": "deployment",
                "namespaced": True,
                "kind": "Deployment",
                "shortNames": ["deploy"],
                "categories": ["all"],
            },
        ),
    ],
)
async def test_discovery_of_what_we_apply(human: Caller, path: str, expected: Json) -> None:
    answer = await human.get(path)
    body = answer.body
    found = {resource["name"]: resource for resource in body["resources"]}[expected["name"]]
    found.pop("storageVersionHash", None)  # of the etcd form, which is nobody else's business

    assert answer.status == 200
    assert body["kind"] == "APIResourceList"
    assert body["groupVersion"] == path.removeprefix("/apis/").removeprefix("/api/")
    assert set(found.pop("verbs")) >= VERBS
    assert found == expected


async def test_discovery_of_namespaces(human: Caller) -> None:
    body = (await human.get("/api/v1")).body
    found = {resource["name"]: resource for resource in body["resources"]}["namespaces"]
    found.pop("storageVersionHash", None)  # of the etcd form, which is nobody else's business

    assert set(found.pop("verbs")) >= VERBS
    assert found == {
        "name": "namespaces",
        "singularName": "namespace",
        "namespaced": False,
        "kind": "Namespace",
        "shortNames": ["ns"],
    }


async def test_discovery_of_groups(human: Caller) -> None:
    core = (await human.get("/api")).body
    groups = {group["name"]: group for group in (await human.get("/apis")).body["groups"]}

    assert core["kind"] == "APIVersions"
    assert core["versions"] == ["v1"]
    version = {"groupVersion": "rbac.authorization.k8s.io/v1", "version": "v1"}
    assert groups["rbac.authorization.k8s.io"] == {
        "name": "rbac.authorization.k8s.io",
        "versions": [version],
        "preferredVersion": version,
    }
    assert {"apps", "batch", "authorization.k8s.io"} <= set(groups)
