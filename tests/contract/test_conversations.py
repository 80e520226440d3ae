"""The stand-in is held to a real server: conversations that they must answer alike, and requests that the stand-in may
refuse with 501, but may not answer otherwise.
"""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import pytest

from local.azure.entra import Identity
from tests.contract.cluster import Cluster
from tests.contract.conversation import Answer, Json
from tests.contract.script import Stage, load

CONVERSATIONS: Final = load("conversations.yaml")
_PLACES: Final = {
    "Secret": "/api/v1/namespaces/{namespace}/secrets",
    "ConfigMap": "/api/v1/namespaces/{namespace}/configmaps",
    "ServiceAccount": "/api/v1/namespaces/{namespace}/serviceaccounts",
    "Service": "/api/v1/namespaces/{namespace}/services",
    "Deployment": "/apis/apps/v1/namespaces/{namespace}/deployments",
    "CronJob": "/apis/batch/v1/namespaces/{namespace}/cronjobs",
    "Role": "/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/roles",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings",
}


def _requests() -> list[list[Json]]:
    """Of requests.yaml: one request each, behind the steps that prepare it."""
    table = load("requests.yaml")
    objects = table["objects"]
    there = {
        "post": "{secrets}",
        "body": objects["Secret"] | {"metadata": {"name": "ar-pull-secret", "labels": {"a": "b"}}},
    }
    found = [[there, request] if request.pop("there", False) else [request] for request in table["requests"]]
    for kind, change in (item for entry in table["applied"] for item in entry.items()):
        body = _change(objects[kind], change)
        found.append([{"apply": f"{_PLACES[kind]}/{body['metadata']['name']}", "body": body}])
    return found


def _change(value: Any, change: Any) -> Any:
    if not isinstance(value, dict) or not isinstance(change, dict):
        return change
    return value | {name: _change(value.get(name), part) for name, part in change.items()}


REQUESTS: Final = _requests()


@pytest.mark.real
@pytest.mark.parametrize("name", CONVERSATIONS)
async def test_the_stand_in_answers_as_the_real_server(
    stand_in: Cluster, real: Cluster, identity: Identity, name: str
) -> None:
    ours, theirs = [await Stage.open(cluster, identity) for cluster in (stand_in, real)]
    steps = CONVERSATIONS[name]

    expected = _settle(await theirs.send(steps), theirs)
    assert _settle(await ours.send(steps), ours) == expected


@pytest.mark.real
@pytest.mark.parametrize("steps", REQUESTS, ids=lambda steps: json.dumps(steps[-1])[:100])
@pytest.mark.parametrize("by", ["admin", "app"])
async def test_what_the_stand_in_does_not_refuse_the_real_server_answers_alike(
    stand_in: Cluster, real: Cluster, identity: Identity, steps: list[Json], by: str
) -> None:
    ours, theirs = [await _answer(cluster, identity, steps, by) for cluster in (stand_in, real)]

    assert ours.status in {theirs.status, 501}, (ours.text[:500], theirs.text[:500])


async def test_a_call_that_is_not_played_is_refused_with_the_name_of_the_real_server(
    stand_in: Cluster, identity: Identity
) -> None:
    answers = [await _answer(stand_in, identity, steps) for steps in REQUESTS]
    refused = [answer for answer in answers if answer.status == 501]

    assert len(refused) > len(REQUESTS) / 2
    assert {"real kube-apiserver" in answer.body["message"] for answer in refused} == {True}


async def _answer(cluster: Cluster, identity: Identity, steps: list[Json], by: str = "admin") -> Answer:
    """To the last step, which this caller sends."""
    stage = await Stage.open(cluster, identity)
    await stage.send(steps[:-1])
    return (await stage.send(steps[-1:], by))[0]


def _settle(answers: Sequence[Answer], stage: Stage) -> list[tuple[int, str, Any]]:
    """The answers with a name for all that differs from run to run. The same uid or version has the same name."""
    seen: dict[str, str] = {}
    return [
        (answer.status, answer.headers["content-type"], _name(_sort(answer.body), seen, stage.namespace))
        for answer in answers
    ]


def _sort(body: Json) -> Json:
    """The body with lists in one order: causes have none, and owners depend on the second in which they wrote."""
    body.get("metadata", {}).get("managedFields", []).sort(key=lambda entry: (entry["operation"], entry["manager"]))
    causes = body.get("details", {}).get("causes", [])
    causes.sort(key=lambda cause: (cause.get("field", ""), cause["message"]))
    if body["kind"] == "SelfSubjectAccessReview":
        # The stand-in does not say why.
        return {"spec": body["spec"], "allowed": body["status"]["allowed"]}
    return body


def _name(value: Any, seen: dict[str, str], namespace: str) -> Any:
    if isinstance(value, str):
        return value.replace(namespace, "{namespace}")
    if isinstance(value, list):
        return [_name(item, seen, namespace) for item in value]
    if not isinstance(value, dict):
        return value
    made = {key: _name(item, seen, namespace) for key, item in value.items() if key != "generation"}
    for key in {"uid", "resourceVersion", "continue"} & made.keys():
        made[key] = seen.setdefault(made[key], f"{key} {len(seen)}")
    for key in {"creationTimestamp", "deletionTimestamp", "time"} & made.keys():
        assert datetime.fromisoformat(made[key])
        made[key] = "a time"
    return made
