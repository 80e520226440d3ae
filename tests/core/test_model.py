"""What documents accept, what their errors say, and that stored documents are read back unchanged."""

import json
import string
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pullkeeper.document import Document
from pullkeeper.errors import InvalidRequest
from pullkeeper.fleet.queues import RefreshMessage
from pullkeeper.fleet.status import Status, TargetStatus
from pullkeeper.model import Cluster, ClusterId, Endpoint, Target
from pullkeeper.publisher.hub import Hub
from pullkeeper.service_accounts import ServiceAccount
from tests.core.hostile import cases
from tests.core.publisher import hub, parsed_hub

_SUBSCRIPTION = "0b1f6471-1bf0-4dda-aec3-cb9272f09590"
_CLUSTER = (
    f"/subscriptions/{_SUBSCRIPTION}/resourceGroups/rg-prod/providers/Microsoft.ContainerService/managedClusters/aks-1"
)


def _fail(kind: type[Document], document: Any) -> str:
    with pytest.raises(InvalidRequest) as raised:
        kind.parse(document)
    assert raised.value.__cause__ is None
    return raised.value.detail


# Clusters


_guids = st.uuids().map(str)
_alphanumerics = string.ascii_letters + string.digits
_groups = st.text(_alphanumerics + "_.()-", min_size=1, max_size=90).filter(lambda group: not group.endswith("."))
_names = st.text(_alphanumerics + "_-", min_size=1, max_size=63).filter(
    lambda name: {name[0], name[-1]}.isdisjoint("_-")
)


@given(subscription=_guids, group=_groups, name=_names)
def test_a_cluster_id_reads_back_from_its_own_text(subscription: str, group: str, name: str) -> None:
    cluster = ClusterId.of(subscription, group, name)

    assert cluster == ClusterId.parse(str(cluster))


@given(subscription=_guids, group=_groups, name=_names)
def test_a_cluster_is_the_same_however_its_id_is_spelled(subscription: str, group: str, name: str) -> None:
    cluster = ClusterId.of(subscription, group, name)

    assert cluster == ClusterId.parse(str(cluster).upper()) == ClusterId.parse(str(cluster).lower())
    assert (subscription, group.lower(), name.lower()) == (cluster.subscription, cluster.resource_group, cluster.name)


@pytest.mark.parametrize("text", cases("cluster ids"))
def test_any_other_text_is_no_cluster_id_and_not_quoted(text: Any) -> None:
    """In a request, a stored row, or a message."""
    message = _fail(Cluster, {"cluster": text, "hub": "main"})

    assert message == _fail(RefreshMessage, {"shard": "00", "reason": "due", "cluster": text or ""})
    assert message == (
        "cluster: must be /subscriptions/GUID/resourceGroups/GROUP"
        "/providers/Microsoft.ContainerService/managedClusters/NAME"
    )


@pytest.mark.parametrize(
    ("group", "name"),
    [
        ("rg/../other", "aks-1"),
        ("rg%2f..", "aks-1"),
        ("rg", "aks-1/agentPools/x"),
        ("rg/providers/Microsoft.ContainerService/managedClusters/aks-1", ""),
        ("{0}", "aks-1"),
    ],
)
def test_the_parts_of_a_route_cannot_reach_another_resource(group: str, name: str) -> None:
    with pytest.raises(InvalidRequest):
        ClusterId.of(_SUBSCRIPTION, group, name)


# Targets


@pytest.mark.parametrize(
    "namespace",
    [
        "kube-system", "kube-public", "kube-node-lease", "gatekeeper-system", "azure-arc", "aks-command",
        "calico-system", "tigera-operator",
    ],
)  # fmt: skip
def test_namespaces_of_the_cluster_itself_are_refused(namespace: str) -> None:
    message = _fail(Target, {"namespace": namespace})

    assert message == "namespace: is reserved for the cluster's own components"


@pytest.mark.parametrize(
    "namespace", ["kube", "my-kube-system", "default", "deepintshield", "azure-arc-demo", "a", "0", "a" * 63]
)
def test_other_namespaces_are_accepted(namespace: str) -> None:
    assert namespace == Target.parse({"namespace": namespace}).namespace


_NO_DNS_NAME = cases("names")


@pytest.mark.parametrize("name", _NO_DNS_NAME)
@pytest.mark.parametrize("field", ["namespace", "secret", "serviceAccounts"])
def test_a_name_that_kubernetes_refuses_is_refused_and_not_quoted(field: str, name: Any) -> None:
    message = _fail(Target, {field: [name] if field == "serviceAccounts" else name})

    assert message.startswith(field)
    assert "evil" not in message.lower()
    assert "\n" not in message


def test_a_namespace_is_a_label_and_a_secrets_name_may_have_dots() -> None:
    assert Target.parse({"secret": "a.b"}).secret == "a.b"
    assert _fail(Target, {"namespace": "a.b"}).startswith("namespace: ")
    assert _fail(Target, {"namespace": "a" * 64}).startswith("namespace: ")
    assert _fail(Target, {"secret": ".".join(["a" * 63] * 5)}).startswith("secret: ")


# Documents


@pytest.mark.parametrize(
    ("kind", "document"),
    [
        (Target, {}),
        (Cluster, {"cluster": _CLUSTER, "hub": "main"}),
        (RefreshMessage, {"shard": "00", "cluster": _CLUSTER, "reason": "due"}),
        (Hub, hub()),
    ],
)
def test_unknown_and_privileged_fields_are_refused_by_name(kind: type[Document], document: dict[str, Any]) -> None:
    message = _fail(kind, {**document, "server": "https://evil.example", "role": "evil"})

    assert message == "server: Extra inputs are not permitted; role: Extra inputs are not permitted"


@pytest.mark.parametrize("value", ["yes", "true", 1, 0, None, [], {}])
def test_adopt_must_be_true_or_false(value: Any) -> None:
    """No value that resembles one of them: it decides over the secret of another owner."""
    message = _fail(Cluster, {"cluster": _CLUSTER, "hub": "main", "adopt": value})

    assert message == "adopt: Input should be a valid boolean"


@pytest.mark.parametrize("reason", ["evil", "", None, 7, "DUE", "due\n"])
def test_a_message_has_one_of_three_reasons(reason: Any) -> None:
    message = _fail(RefreshMessage, {"shard": "00", "reason": reason})

    assert message == "reason: Input should be 'due', 'retry' or 'manual'"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"ya29.canary", id="no JSON"),
        pytest.param(b'"ya29.canary"', id="a string"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b"null", id="null"),
        pytest.param(b"\xff\xfe", id="no UTF-8"),
        pytest.param(b'{"cluster": "ya29.canary"', id="half a document"),
        pytest.param(b"[" * 100_000, id="deep"),
        pytest.param(b'{"a":' * 100_000, id="deep objects"),
        pytest.param(b'{"ya29.canary": 1}', id="a token for a field"),
        pytest.param(b"9" * 100_000, id="a long number"),
    ],
)
def test_malformed_json_is_refused_and_not_quoted(text: bytes) -> None:
    message = _fail(RefreshMessage, text)

    assert "canary" not in message
    assert message[0] != ":"


def test_errors_in_a_clusters_own_hub_name_their_fields() -> None:
    message = _fail(Cluster, {"cluster": _CLUSTER, "hub": {**hub(probe="evil"), "evil": 1}, "targets": []})

    assert message.split("; ") == [
        "hub.probe: must be HOST/PROJECT/REPOSITORY/IMAGE[:TAG]",
        "hub.evil: Extra inputs are not permitted",
        "targets: Tuple should have at least 1 item after validation, not 0",
    ]


def test_an_error_in_the_constructor_does_not_quote_the_value() -> None:
    with pytest.raises(ValidationError) as raised:
        Target(namespace="Canary")

    assert "Canary" not in f"{raised.value} {raised.value!r}"


def test_a_document_does_not_change() -> None:
    """What has been validated stays valid, and other invocations hold the same one."""
    with pytest.raises(ValidationError, match="frozen"):
        Target().namespace = "kube-system"  # type: ignore[misc]


def test_defaults_are_not_stored() -> None:
    """A changed default then applies to all who did not set the field."""
    cluster = Cluster(cluster=ClusterId.parse(_CLUSTER), hub="main", targets=(Target(secret="another"),))

    assert json.loads(cluster.to_json()) == {
        "cluster": str(cluster.cluster),
        "hub": "main",
        "targets": [{"secret": "another"}],
    }


def test_ten_thousand_targets_are_refused_at_once() -> None:
    document = {"cluster": _CLUSTER, "hub": "main", "targets": [{"secret": f"s{n}"} for n in range(10_000)]}
    started = time.process_time()

    message = _fail(Cluster, json.dumps(document))

    assert message.startswith("targets: Tuple should have at most 500 items")
    assert time.process_time() - started < 1


def test_the_error_message_is_short() -> None:
    assert len(_fail(Target, {"x" * 1_000_000: 1, **{f"f{n}": 1 for n in range(10_000)}})) < 1000


def test_the_same_secret_twice_is_refused() -> None:
    document = {"cluster": _CLUSTER, "hub": "main", "targets": [{}, {"serviceAccounts": ["a"]}]}

    assert _fail(Cluster, document) == "targets: the same secret is named twice"


@pytest.mark.parametrize(
    "server",
    [
        "http://aks.example", "https://user@aks.example", "https://aks.example/path", "https://aks.example\n",
        "https://aks.example:\u0661", "https://", "https://aks.example?x", "aks.example",
    ],
)  # fmt: skip
def test_an_api_servers_address_is_a_host_and_a_port(server: str) -> None:
    message = _fail(Endpoint, {"server": server, "ca": "pem", "readAt": "2026-01-01T00:00:00Z"})

    assert message.startswith("server: ")


def test_a_huge_certificate_authority_is_refused() -> None:
    endpoint = {"server": "https://aks.example", "ca": "x" * 64_001, "readAt": "2026-01-01T00:00:00Z"}

    assert _fail(Endpoint, endpoint) == "ca: String should have at most 64000 characters"


@pytest.mark.parametrize("when", ["2026-01-01T00:00:00", "soon", None])
def test_a_time_without_a_zone_is_refused(when: Any) -> None:
    message = _fail(TargetStatus, {"nextDue": when})

    assert message.startswith("nextDue: ")


def _all(kind: type[Document], **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Not `st.builds`, which reads the outer names off pydantic's signatures."""
    return st.fixed_dictionaries(fields).map(lambda given: kind(**given))


_moments = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis adds the zone
_clusters = st.builds(ClusterId.of, _guids, _groups, _names)
_label = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=63)
_targets = _all(
    Target,
    namespace=_label,
    secret=_label,
    service_accounts=st.lists(
        _all(ServiceAccount, name=_label, federate=st.booleans()), max_size=3, unique_by=lambda account: account.name
    ),
)
_hubs = st.builds(
    lambda lifetime, registries: parsed_hub(
        tokenLifetime=lifetime, registries=registries, probe=f"{registries[0]}/p-1/r/i"
    ),
    st.integers(1, 43200),
    st.lists(st.sampled_from(["gcr.io", "us.gcr.io", "europe-docker.pkg.dev"]), min_size=1, unique=True),
)
_texts = st.none() | st.text()
_times = st.none() | _moments


_endpoints = _all(
    Endpoint,
    server=st.just("https://aks-1.hcp.example:443"),
    ca=st.text(),
    local_accounts=st.booleans(),
    read_at=_moments,
)
_target_statuses = _all(
    TargetStatus,
    uid=_texts,
    issued_at=_times,
    expires_at=_times,
    last_success=_times,
    next_due=_moments,
    failures=st.integers(0, 99),
    category=_texts,
    detail=_texts,
    remedy=_texts,
    note=_texts,
)
_documents = st.one_of(
    _all(
        RefreshMessage,
        shard=st.sampled_from(["00", "07", "0f"]),
        cluster=st.none() | _clusters,
        reason=st.sampled_from(["due", "retry", "manual"]),
    ),
    _all(
        Cluster,
        cluster=_clusters,
        hub=_label | _hubs,
        targets=st.lists(_targets, min_size=1, max_size=3, unique_by=str).map(tuple),
        adopt=st.booleans(),
    ),
    _all(
        Status,
        targets=st.dictionaries(st.text(), _target_statuses, max_size=3),
        endpoint=st.none() | _endpoints,
        located_at=_times,
    ),
)


@given(document=_documents)
def test_a_document_survives_its_json(document: Document) -> None:
    back = type(document).parse(document.to_json())

    assert json.loads(document.to_json()) == json.loads(back.to_json())
    assert document == back or isinstance(document, Cluster)  # a hub of its own leaves the pods' token file behind


@given(document=_documents)
def test_stored_field_names_are_camel_case(document: Document) -> None:
    assert "_" not in "".join(json.loads(document.to_json()))


@pytest.mark.parametrize(
    ("status", "state"),
    [
        (TargetStatus(), "pending"),
        (TargetStatus(category="cluster_unreachable"), "pending"),
        (TargetStatus(expires_at=datetime(2026, 1, 1, 12, 1, tzinfo=UTC)), "fresh"),
        (TargetStatus(expires_at=datetime(2026, 1, 1, 12, 1, tzinfo=UTC), category="registry_denied"), "stale"),
        (TargetStatus(expires_at=datetime(2026, 1, 1, 12, 0, tzinfo=UTC)), "expired"),
        (TargetStatus(expires_at=datetime(2026, 1, 1, 11, 0, tzinfo=UTC), category="internal"), "expired"),
    ],
)
def test_state_of_a_secret(status: TargetStatus, state: str) -> None:
    assert state == status.state(datetime(2026, 1, 1, 12, tzinfo=UTC))
