"""The stand-in is never laxer: what it takes the real server takes. All else it refuses, mostly with 501."""

import base64
from dataclasses import dataclass, field
from typing import Any, Final

import pytest

from local.azure.entra import Identity
from tests.contract.cases import NAME, RBAC, a_job
from tests.contract.cluster import Cluster
from tests.contract.conversation import APPLY, JSON_PATCH, MERGE, STRATEGIC, Answer, Caller, Json, bare, pull_secret

_PLACES: Final = {
    "Secret": "/api/v1/namespaces/{}/secrets",
    "ConfigMap": "/api/v1/namespaces/{}/configmaps",
    "ServiceAccount": "/api/v1/namespaces/{}/serviceaccounts",
    "Service": "/api/v1/namespaces/{}/services",
    "ResourceQuota": "/api/v1/namespaces/{}/resourcequotas",
    "Pod": "/api/v1/namespaces/{}/pods",
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "CronJob": "/apis/batch/v1/namespaces/{}/cronjobs",
    "Role": f"/apis/{RBAC}/v1/namespaces/{{}}/roles",
    "RoleBinding": f"/apis/{RBAC}/v1/namespaces/{{}}/rolebindings",
}


@dataclass(frozen=True, slots=True)
class Request:
    """path: where {} is the namespace. there: what is in the namespace already."""

    method: str
    path: str
    body: Any = None
    content_type: str = "application/json"
    query: dict[str, str] = field(default_factory=dict)
    accept: str = "application/json"
    there: tuple[Json, ...] = ()

    async def send(self, cluster: Cluster, by: Caller) -> Answer:
        namespace = await cluster.namespace()
        for body in self.there:
            made = await cluster.admin.post(_PLACES[body["kind"]].format(namespace), body)
            assert made.status == 201, made.text
        options = {"content_type": self.content_type, "accept": self.accept}
        return await by.send(self.method, self.path.format(namespace), self.body, **options, **self.query)


def applied(body: Json, *, name: str = NAME, **query: str) -> Request:
    path = f"{_PLACES[body['kind']]}/{name}"
    return Request("PATCH", path, body, APPLY, {"fieldManager": "pullkeeper", **query})


def patched(body: Any, content_type: str = MERGE, **query: str) -> Request:
    path = f"{_PLACES['Secret']}/{NAME}"
    return Request("PATCH", path, body, content_type, query, there=(pull_secret(labels={"a": "b"}),))


def secret(**changed: Any) -> Json:
    return pull_secret() | changed


def content(text: str) -> Json:
    return secret(data={".dockerconfigjson": base64.b64encode(text.encode()).decode()})


def of_kind(kind: str, group: str = "", **more: Any) -> Json:
    return {"apiVersion": f"{group}/v1" if group else "v1", "kind": kind, "metadata": {"name": NAME}, **more}


def deployment(**spec: Any) -> Json:
    labels = {"app": "app"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "app", "image": "app"}]}}
    return of_kind("Deployment", "apps", spec={"selector": {"matchLabels": labels}, "template": template, **spec})


def pod(**changed: Any) -> Json:
    container = {"name": "app", "image": "app", **changed}
    return deployment(template={"metadata": {"labels": {"app": "app"}}, "spec": {"containers": [container]}})


def labelled(key: str, value: str) -> Json:
    labels = {"app": "app", key: value}
    return deployment(
        template={"metadata": {"labels": labels}, "spec": {"containers": [{"name": "app", "image": "app"}]}}
    )


def job(**spec: Any) -> Json:
    return a_job() | {"spec": a_job()["spec"] | spec}


def binding(kind: str = "Role", **subject: str) -> Json:
    reference = {"apiGroup": RBAC, "kind": kind, "name": "view"}
    return of_kind("RoleBinding", RBAC, roleRef=reference, subjects=[subject])


def service(**spec: Any) -> Json:
    return of_kind("Service", spec={"ports": [{"port": 80}], **spec})


_SECRETS: Final = _PLACES["Secret"]
_ADD: Final = {"op": "add", "path": "/metadata/labels/x", "value": "y"}
REQUESTS: Final = [
    *(
        applied(pull_secret(name), name=name)
        for name in ("UPPER", "a_b", "a..b", "-a", "a-", "a.b", "a" * 253, "a" * 254, "a/b")
    ),
    *(
        applied(pull_secret(labels={key: "v"}))
        for key in ("", "a b", "a/b/c", "/a", "-a", "x" * 64, "A.b/c", "e.x/A_b")
    ),
    *(applied(pull_secret(labels={"l": value})) for value in ("not valid!", "-a", "", "a" * 63, "a" * 64)),
    *(applied(pull_secret(annotations={key: "x"})) for key in ("A/b", "a b", "", "a" * 64)),
    applied(pull_secret(annotations={"a": "x" * 256 * 1024})),
    applied(pull_secret(annotations={"a": None})),
    applied(pull_secret(finalizers=["nonsense"])),
    applied(pull_secret(ownerReferences=[{"kind": "x"}])),
    applied(pull_secret(managedFields=[])),
    applied(pull_secret(resourceVersion="1")),
    applied(pull_secret(generateName="x")),
    applied(pull_secret(namespace="default")),
    applied(pull_secret("other")),
    applied(secret(spec={})),
    applied(secret(data="x")),
    applied(secret(data=None)),
    applied(secret(data={})),
    applied(secret(data={"x": "eA=="})),
    applied(secret(type=1)),
    applied(secret(type="kubernetes.io/tls")),
    applied(secret(kind="Secret", apiVersion="v2")),
    applied(secret(immutable=True)),
    applied(secret(stringData={"a": "b"})),
    *(
        applied(secret(data={".dockerconfigjson": text}))
        for text in ("%%%", "e30", "e30=%", "e30==", "e30=e30=", "e3 0=")
    ),
    *(
        applied(content(text))
        for text in (
            "",
            "{",
            "[]",
            "null",
            '"x"',
            "3",
            "{} x",
            '{"a":NaN}',
            '{"a":1e999}',
            '{"a":1}',
            "\ufeff{}",
            "'x'",
        )
    ),
    *(applied(bare() | {"data": {key: "eA=="}}) for key in ("a b", ".", "..", "..a", "a/b", "", "a" * 253, "a" * 254)),
    applied(bare() | {"data": {"x": base64.b64encode(b"x" * (1024 * 1024 + 1)).decode()}}),
    applied(of_kind("ConfigMap", data={"a": "x" * 1024 * 1024})),
    applied(of_kind("ConfigMap", data={"a": "x" * (1024 * 1024 + 1)})),
    applied(of_kind("ConfigMap", data={"a": 1})),
    applied(of_kind("ConfigMap", immutable=True)),
    applied(of_kind("ServiceAccount", imagePullSecrets=[{"name": 1}])),
    applied(of_kind("ServiceAccount", imagePullSecrets=[{"name": "a"}, {"name": "a"}])),
    applied(of_kind("ServiceAccount", automountServiceAccountToken=False)),
    applied(secret(), dryRun="Some"),
    applied(secret(), fieldValidation="Loud"),
    applied(secret(), fieldManager=""),
    applied(secret(), fieldManager="m" * 129),
    applied(secret(), force="perhaps"),
    applied(service()),
    applied(service(ports=[])),
    applied(service(ports=[{"port": 70000}])),
    applied(service(ports=[{"port": 80}, {"port": 80}])),
    applied(service(type="Nonsense")),
    applied(service(clusterIP="1.2.3.4")),
    applied(service() | {"metadata": {"name": "1a"}}, name="1a"),
    applied(deployment()),
    applied(pod() | {"spec": {**pod()["spec"], "template": {"spec": {"imagePullSecrets": [{}]}}}}),
    applied(deployment(replicas=-1)),
    applied(deployment(replicas=True)),
    applied(deployment(selector={})),
    applied(deployment(selector={"matchLabels": {"app": "other"}})),
    applied(deployment(strategy={"type": "Nonsense"})),
    *(applied(labelled(key, "x")) for key in ("", "a b", "a//b", "-a", "x" * 64, "A.b/c", "a/b.c_d", "a\n")),
    *(applied(labelled("l", value)) for value in ("-a", "a b", "a" * 64, "a\n", "")),
    applied(pod(image="")),
    applied(pod(image="a\n")),
    applied(pod(image=" a")),
    applied(pod(name="A")),
    applied(pod(imagePullPolicy="Sometimes")),
    applied(pod(volumeMounts=[{"name": "gone", "mountPath": "/x"}])),
    applied(pod(resources={"requests": {"cpu": "x"}})),
    applied(pod(ports=[{"containerPort": 8080}, {"containerPort": 8080}])),
    applied(pod(livenessProbe={"periodSeconds": 10})),
    applied(pod(nonsense=1)),
    applied(deployment(template={"metadata": {"labels": {"app": "app"}}, "spec": {"containers": []}})),
    applied(job()),
    applied(job(schedule="")),
    applied(job(schedule="*/5 * * * *\n")),
    applied(job(schedule="*/60 * * * *")),
    applied(job(schedule="*/0 * * * *")),
    applied(job(schedule="a b c d e")),
    applied(job(suspend="yes")),
    applied(job(concurrencyPolicy="Nonsense")),
    applied(job(jobTemplate={"spec": {"template": {"spec": {"containers": [{"name": "a", "image": "a"}]}}}})),
    applied(a_job(name="a" * 53), name="a" * 53),
    applied(of_kind("Role", RBAC, rules=[{"verbs": ["get"]}])),
    applied(of_kind("Role", RBAC, rules=[{"apiGroups": [""], "resources": ["secrets"], "verbs": []}])),
    applied(of_kind("Role", RBAC, rules=[{"nonResourceURLs": ["/x"], "verbs": ["get"]}])),
    applied(of_kind("Role", RBAC, rules=None)),
    applied(binding(kind="User", name="a")),
    applied(binding(kind="User", name="")),
    applied(binding(kind="User", name="a", apiGroup="x")),
    applied(binding(kind="ServiceAccount", name="A", namespace="a")),
    applied(binding(kind="ServiceAccount", name="a")),
    applied(binding(kind="Nonsense", name="a")),
    Request("PATCH", f"{_SECRETS}/{NAME}", "", APPLY, {"fieldManager": "pullkeeper"}),
    Request("PATCH", f"{_SECRETS}/{NAME}", "{", APPLY, {"fieldManager": "pullkeeper"}),
    Request("PATCH", f"{_SECRETS}/{NAME}", "[]", APPLY, {"fieldManager": "pullkeeper"}),
    Request("PATCH", f"{_SECRETS}/{NAME}", '{"kind":"Secret","kind":"x"}', APPLY, {"fieldManager": "pullkeeper"}),
    patched({}, force="true"),
    patched({"nonsense": 1}),
    patched({"type": "Opaque"}),
    patched({"metadata": {"name": "other"}}),
    patched({"metadata": {"uid": "x"}}),
    patched({"metadata": {"resourceVersion": "x"}}),
    patched({"metadata": {"resourceVersion": ""}}),
    patched({"metadata": {"labels": "x"}}),
    patched({"metadata": {"managedFields": [{"manager": "x", "operation": "Nonsense"}]}}),
    patched({"metadata": {"managedFields": [{}]}}),
    patched({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
    patched({"metadata": None}),
    patched({"kind": "ConfigMap"}),
    patched("[]"),
    patched("null"),
    patched([_ADD], JSON_PATCH),
    patched([{**_ADD, "path": "/metadata/labels/a~1b"}], JSON_PATCH),
    patched([{**_ADD, "path": "/nothing/x"}], JSON_PATCH),
    patched([{**_ADD, "path": "metadata"}], JSON_PATCH),
    patched([{**_ADD, "path": ""}], JSON_PATCH),
    patched([{**_ADD, "op": "zap"}], JSON_PATCH),
    patched([{"op": "replace", "path": "/type", "value": "Opaque"}], JSON_PATCH),
    patched([{"op": "remove", "path": "/metadata/labels/x"}], JSON_PATCH),
    patched([{"op": "test", "path": "/metadata/labels/x", "value": None}], JSON_PATCH),
    patched([{"op": "test", "path": "/type"}], JSON_PATCH),
    patched({}, JSON_PATCH),
    patched({"data": {"a": "eA=="}}, STRATEGIC),
    patched({}, "text/plain"),
    Request("POST", _SECRETS, pull_secret(), there=(pull_secret(),)),
    Request("POST", _SECRETS, {}),
    Request("POST", _SECRETS, secret(data={".dockerconfigjson": "%%%"})),
    Request("POST", _SECRETS, secret(spec={}), query={"fieldValidation": "Strict"}),
    Request("POST", _SECRETS, of_kind("ConfigMap")),
    Request("POST", _SECRETS, pull_secret(), "text/plain"),
    Request("POST", f"{_SECRETS}/{NAME}", pull_secret()),
    Request("POST", "/api/v1/secrets", pull_secret()),
    Request("PUT", f"{_SECRETS}/{NAME}", pull_secret()),
    Request("GET", f"{_SECRETS}/{NAME}", accept="text/html"),
    Request("GET", _SECRETS, query={"limit": "x"}),
    Request("GET", _SECRETS, query={"labelSelector": "a b"}),
    Request("GET", "/api/v1/secrets/x"),
    Request("GET", "/api/v2/secrets"),
    Request("GET", "/apis/apps/v1/secrets"),
    Request("GET", "/nonsense"),
    Request("DELETE", f"{_SECRETS}/none"),
    Request("DELETE", f"{_SECRETS}/{NAME}", {"preconditions": {"resourceVersion": "1"}}, there=(pull_secret(),)),
    Request("DELETE", f"{_SECRETS}/{NAME}", {"propagationPolicy": "Nonsense"}, there=(pull_secret(),)),
    Request("DELETE", f"{_SECRETS}/{NAME}", {"dryRun": ["Some"]}, there=(pull_secret(),)),
    Request("DELETE", "/api/v1/namespaces/default"),
    Request("POST", "/api/v1/namespaces", {"metadata": {"name": "a.b"}}),
    Request("POST", "/api/v1/namespaces", {"metadata": {"name": "default"}}),
    Request("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", {"spec": {}}),
]


@pytest.mark.real
@pytest.mark.parametrize("request_", REQUESTS, ids=str)
async def test_what_the_stand_in_takes_the_real_server_takes(
    real: Cluster, stand_in: Cluster, request_: Request
) -> None:
    ours, theirs = await request_.send(stand_in, stand_in.admin), await request_.send(real, real.admin)

    assert ours.status in {theirs.status, 501}, (ours.text[:500], theirs.text[:500])


@pytest.mark.real
@pytest.mark.parametrize("request_", REQUESTS, ids=str)
async def test_a_caller_without_rights_is_refused_as_by_the_real_server(
    real: Cluster, stand_in: Cluster, identity: Identity, request_: Request
) -> None:
    ours = await request_.send(stand_in, stand_in.caller(identity))
    theirs = await request_.send(real, real.caller(identity))

    assert ours.status in {theirs.status, 501}, (ours.text[:500], theirs.text[:500])


async def test_a_call_that_is_not_played_is_refused_with_the_name_of_the_real_server(
    stand_in: Cluster,
) -> None:
    answers = [await request.send(stand_in, stand_in.admin) for request in REQUESTS]
    refused = [answer for answer in answers if answer.status == 501]

    assert len(refused) > len(REQUESTS) / 2
    assert {"real kube-apiserver" in answer.body["message"] for answer in refused} == {True}
