"""The words of the design as values: what is refused at the edge, and that what was stored comes back the same."""

import json
import string
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pullkeeper.document import Document
from pullkeeper.errors import InvalidRequest
from pullkeeper.model import Cluster, ClusterId, Endpoint, RefreshMessage, Status, Target, TargetStatus
from pullkeeper.publisher.hub import Hub, Image
from tests.core.publisher import credential_config, hub, parsed_hub

_SUBSCRIPTION = "0b1f6471-1bf0-4dda-aec3-cb9272f09590"
_CLUSTER = (
    f"/subscriptions/{_SUBSCRIPTION}/resourceGroups/rg-prod/providers/Microsoft.ContainerService/managedClusters/aks-1"
)


def _refusal(kind: type[Document], document: Any) -> str:
    with pytest.raises(InvalidRequest) as refused:
        kind.parse(document)
    assert refused.value.__cause__ is None
    return refused.value.detail


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


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("aks-1", id="a bare name"),
        pytest.param(None, id="null"),
        pytest.param(7, id="a number"),
        pytest.param({"server": "https://evil.example"}, id="an API server's address in its place"),
        pytest.param("https://evil.example", id="a URL"),
        pytest.param("https://management.azure.com" + _CLUSTER, id="a host in front"),
        pytest.param(_CLUSTER + "/", id="a slash at the end"),
        pytest.param(_CLUSTER + "/evil", id="another segment"),
        pytest.param(_CLUSTER + "\n", id="a newline at the end"),
        pytest.param("\n" + _CLUSTER, id="a newline in front"),
        pytest.param(_CLUSTER + " ", id="a blank at the end"),
        pytest.param(_CLUSTER + "?api-version=evil", id="a query"),
        pytest.param(_CLUSTER + "#evil", id="a fragment"),
        pytest.param(_CLUSTER.replace("rg-prod", ".."), id="dots for a group"),
        pytest.param(_CLUSTER.replace("rg-prod", "."), id="a dot for a group"),
        pytest.param(_CLUSTER.replace("rg-prod", "evil."), id="a group that ends in a dot"),
        pytest.param(_CLUSTER.replace("rg-prod", "x/../evil"), id="dots within"),
        pytest.param(_CLUSTER.replace("rg-prod", "x%2f..%2fevil"), id="escaped slashes"),
        pytest.param(_CLUSTER.replace("rg-prod", "evil|x"), id="the row key's separator"),
        pytest.param(_CLUSTER.replace("rg-prod", "evil' or 1 eq 1"), id="OData"),
        pytest.param(_CLUSTER.replace("rg-prod", "g" * 91), id="a group of 91 characters"),
        pytest.param(_CLUSTER.replace("rg-prod", "gr\u00fcppe"), id="a letter beyond ASCII"),
        pytest.param(_CLUSTER.replace("aks-1", "a\u212as-1"), id="the Kelvin sign, a k without case"),
        pytest.param(_CLUSTER.replace("/rg-prod", ""), id="no group"),
        pytest.param(_CLUSTER.replace("/", "//", 1), id="an empty segment"),
        pytest.param(_CLUSTER.replace(_SUBSCRIPTION, "evil"), id="no GUID"),
        pytest.param(_CLUSTER.replace(_SUBSCRIPTION, _SUBSCRIPTION.replace("-", "")), id="a GUID without dashes"),
        pytest.param(_CLUSTER.replace("aks-1", "-aks"), id="a name that begins with a dash"),
        pytest.param(_CLUSTER.replace("aks-1", "a" * 64), id="a name of 64 characters"),
        pytest.param(_CLUSTER.replace("managedClusters", "virtualMachines"), id="another type"),
        pytest.param(_CLUSTER.replace("ContainerService", "ContainerRegistry"), id="another provider"),
        pytest.param(_CLUSTER.replace("ContainerService", "ContainerXService"), id="a dot is a dot"),
        pytest.param(_CLUSTER + "/agentPools/evil", id="a child resource"),
    ],
)
def test_what_is_no_aks_cluster_id_is_refused_and_not_quoted(text: Any) -> None:
    told = _refusal(RefreshMessage, {"cluster": text, "reason": "due"})

    assert told == (
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
    told = _refusal(Target, {"namespace": namespace})

    assert told == "namespace: is reserved for the cluster's own components"


@pytest.mark.parametrize("namespace", ["kube", "my-kube-system", "default", "deepintshield", "a", "0", "a" * 63])
def test_other_namespaces_are_taken(namespace: str) -> None:
    assert namespace == Target.parse({"namespace": namespace}).namespace


_NO_DNS_NAME = [
    pytest.param("", id="empty"),
    pytest.param("Evil", id="upper case"),
    pytest.param("evil_name", id="underscore"),
    pytest.param("-evil", id="dash in front"),
    pytest.param("evil-", id="dash behind"),
    pytest.param("evil\n", id="newline behind"),
    pytest.param("\nevil", id="newline in front"),
    pytest.param("evil\r\nx: y", id="a header"),
    pytest.param("evil/../x", id="path"),
    pytest.param("..", id="dots"),
    pytest.param("evil%2fx", id="escaped slash"),
    pytest.param("evil\x00", id="null"),
    pytest.param("\u0435vil", id="a Cyrillic letter"),
    pytest.param("evil\u0661", id="a digit of another script"),
    pytest.param("a" * 300, id="too long"),
    pytest.param(None, id="null value"),
    pytest.param(["evil"], id="a list"),
]


@pytest.mark.parametrize("name", _NO_DNS_NAME)
@pytest.mark.parametrize("field", ["namespace", "secret", "serviceAccounts"])
def test_a_name_that_kubernetes_would_not_take_is_refused_and_not_quoted(field: str, name: Any) -> None:
    told = _refusal(Target, {field: [name] if field == "serviceAccounts" else name})

    assert told.startswith(field)
    assert "evil" not in told.lower()
    assert "\n" not in told


def test_a_namespace_is_a_label_and_a_secrets_name_may_have_dots() -> None:
    assert Target.parse({"secret": "a.b"}).secret == "a.b"
    assert _refusal(Target, {"namespace": "a.b"}).startswith("namespace: ")
    assert _refusal(Target, {"secret": ".".join(["a" * 63] * 5)}).startswith("secret: ")


# Hubs


@pytest.mark.parametrize(
    "host",
    [
        pytest.param("x-docker.pkg.dev.evil.com", id="lookalike at the end"),
        pytest.param("evil.com/x-docker.pkg.dev", id="a path"),
        pytest.param("evil.com#europe-docker.pkg.dev", id="a fragment"),
        pytest.param("evil@europe-docker.pkg.dev", id="userinfo"),
        pytest.param("europe-docker.pkg.dev@evil.com", id="userinfo in front of another host"),
        pytest.param("https://europe-docker.pkg.dev", id="a scheme"),
        pytest.param("europe-docker.pkg.dev:443", id="a port"),
        pytest.param("europe-docker.pkg.dev/", id="a slash"),
        pytest.param("europe-docker.pkg.dev.", id="a dot at the end"),
        pytest.param("europe-docker.pkg.dev\n", id="a newline at the end"),
        pytest.param("EUROPE-docker.pkg.dev", id="upper case"),
        pytest.param("europe-docker.pkg.d\u0435v", id="IDN"),
        pytest.param("evil.europe-docker.pkg.dev", id="another label in front"),
        pytest.param("docker.pkg.dev", id="no location"),
        pytest.param("europedocker.pkg.dev", id="no dash"),
        pytest.param("europe-dockerxpkg.dev", id="a dot is a dot"),
        pytest.param("evil.gcr.io", id="gcr.io of nowhere"),
        pytest.param("gcr.io.evil.com", id="lookalike of gcr.io"),
        pytest.param("mirror.gcr.io", id="the public mirror"),
        pytest.param("index.docker.io", id="another registry"),
        pytest.param("*-docker.pkg.dev", id="a wildcard"),
        pytest.param(f"{'evil' * 100}-docker.pkg.dev", id="longer than a host's label"),
        pytest.param("", id="empty"),
    ],
)
def test_a_registry_that_is_not_googles_is_refused_and_not_quoted(host: str) -> None:
    told = _refusal(Hub, hub(registries=["europe-docker.pkg.dev", host]))

    assert told.startswith("registries: must be ")
    assert "evil" not in told


@pytest.mark.parametrize(
    "host", ["europe-docker.pkg.dev", "us-central1-docker.pkg.dev", "gcr.io", "us.gcr.io", "eu.gcr.io", "asia.gcr.io"]
)
def test_googles_registries_are_taken(host: str) -> None:
    assert (host,) == parsed_hub(registries=[host], probe=f"{host}/p-1/r/i").registries


@pytest.mark.parametrize(
    "probe",
    [
        pytest.param("", id="empty"),
        pytest.param("europe-docker.pkg.dev", id="a host alone"),
        pytest.param("europe-docker.pkg.dev/evil", id="a project alone"),
        pytest.param("europe-docker.pkg.dev/p/../../evil", id="dots"),
        pytest.param("europe-docker.pkg.dev/p//evil", id="an empty segment"),
        pytest.param("europe-docker.pkg.dev/p/r/evil/", id="a slash at the end"),
        pytest.param("europe-docker.pkg.dev/p/r/.evil", id="a hidden name"),
        pytest.param("europe-docker.pkg.dev/p/r%2fevil", id="escaped slash"),
        pytest.param("europe-docker.pkg.dev/p/r/evil?x=y", id="a query"),
        pytest.param("europe-docker.pkg.dev/p/r/Evil", id="upper case"),
        pytest.param("europe-docker.pkg.dev/p/r/evil:..", id="dots for a tag"),
        pytest.param("europe-docker.pkg.dev/p/r/evil:a/b", id="a path for a tag"),
        pytest.param("europe-docker.pkg.dev/p/r/evil:", id="an empty tag"),
        pytest.param("europe-docker.pkg.dev/p/r/evil:t\n", id="a newline at the end"),
        pytest.param("https://europe-docker.pkg.dev/p/r/evil", id="a scheme"),
        pytest.param("europe-docker.pkg.dev/p/r/" + "evil" * 200, id="an endless name"),
        pytest.param(7, id="a number"),
    ],
)
def test_a_probe_that_is_no_image_is_refused_and_not_quoted(probe: Any) -> None:
    told = _refusal(Hub, hub(probe=probe))

    assert told.startswith("probe: ")
    assert "evil" not in told


def test_a_probe_lies_in_one_of_the_hubs_registries() -> None:
    told = _refusal(Hub, hub(probe="asia-docker.pkg.dev/p-1/evil/image"))

    assert told == "probe: must name an image in one of the registries"


@pytest.mark.parametrize(
    ("text", "image"),
    [
        ("gcr.io/p-1/image", Image("gcr.io", "p-1/image", None)),
        ("gcr.io/p-1/image:1.2_3-x", Image("gcr.io", "p-1/image", "1.2_3-x")),
        ("127.0.0.1:5000/p-1/r/a__b/c--d:latest", Image("127.0.0.1:5000", "p-1/r/a__b/c--d", "latest")),
        ("europe-docker.pkg.dev/example.com/p-1/r/i", Image("europe-docker.pkg.dev", "example.com/p-1/r/i", None)),
    ],
)
def test_an_image_is_host_name_and_tag(text: str, image: Image) -> None:
    assert image == Image.parse(text)
    assert text == str(image)


@pytest.mark.parametrize("seconds", [0, -1, 12 * 3600 + 1, 1.5, "soon", None, [], 1e400, "3600", 3600.0, True])
def test_a_lifetime_that_google_cannot_give_is_refused(seconds: Any) -> None:
    document = {**hub(), "tokenLifetime": seconds}

    assert _refusal(Hub, document).startswith("tokenLifetime: ")


@pytest.mark.parametrize(
    ("field", "value"),
    [("scope", "https://www.googleapis.com/auth/evil"), ("entraResource", "api://evil app"), ("entraResource", "")],
)
def test_what_the_token_is_for_is_of_a_known_form(field: str, value: str) -> None:
    told = _refusal(Hub, hub(**{field: value}))

    assert told.startswith(f"{field}: ")
    assert "evil" not in told


def test_hubs_that_say_the_same_are_the_same() -> None:
    """However the document was written: order of fields, defaults spelled out, where the pods find their token."""
    spelled_out = hub(
        credentialConfig=dict(reversed(credential_config(credential_source=None).items())),
        entraResource="api://AzureADTokenExchange",
        tokenLifetime=3600,
        scope="https://www.googleapis.com/auth/cloud-platform.read-only",
    )

    assert parsed_hub().identity == Hub.parse(spelled_out).identity == Hub.parse(parsed_hub().to_json()).identity


@pytest.mark.parametrize(
    "change",
    [
        {"registries": ["europe-docker.pkg.dev"]},
        {"registries": ["us-docker.pkg.dev", "europe-docker.pkg.dev"]},
        {"probe": "europe-docker.pkg.dev/deepintshield-prod/acme/deepintshield:v2"},
        {"entraResource": "api://0b1f6471-1bf0-4dda-aec3-cb9272f09590"},
        {"scope": "https://www.googleapis.com/auth/cloud-platform"},
        {"tokenLifetime": 3599},
        {"credentialConfig": credential_config(service_account_impersonation_url=None)},
        {"credentialConfig": credential_config(audience=credential_config()["audience"] + "2")},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_hub_with_anything_changed_is_another(change: dict[str, Any]) -> None:
    assert parsed_hub().identity != parsed_hub(**change).identity


# Documents


@pytest.mark.parametrize(
    ("kind", "document"),
    [
        (Target, {}),
        (Cluster, {"cluster": _CLUSTER, "hub": "main"}),
        (RefreshMessage, {"cluster": _CLUSTER, "reason": "due"}),
        (Hub, hub()),
    ],
)
def test_unknown_and_privileged_fields_are_refused_by_name(kind: type[Document], document: dict[str, Any]) -> None:
    told = _refusal(kind, {**document, "server": "https://evil.example", "role": "evil"})

    assert told == "server: Extra inputs are not permitted; role: Extra inputs are not permitted"


@pytest.mark.parametrize("value", ["yes", "true", 1, 0, None, [], {}])
def test_whether_to_adopt_is_said_by_true_or_false(value: Any) -> None:
    """Nothing that could be taken for the one or the other: it decides over somebody else's secret."""
    told = _refusal(Cluster, {"cluster": _CLUSTER, "hub": "main", "adopt": value})

    assert told == "adopt: Input should be a valid boolean"


@pytest.mark.parametrize("reason", ["evil", "", None, 7, "DUE", "due\n"])
def test_a_message_has_one_of_three_reasons(reason: Any) -> None:
    told = _refusal(RefreshMessage, {"cluster": _CLUSTER, "reason": reason})

    assert told == "reason: Input should be 'due', 'manual' or 'onboarding'"


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
def test_what_is_no_document_is_refused_and_not_quoted(text: bytes) -> None:
    told = _refusal(RefreshMessage, text)

    assert "canary" not in told
    assert told[0] != ":"


def test_what_is_wrong_inside_a_hub_of_a_clusters_own_is_named_by_its_fields() -> None:
    told = _refusal(Cluster, {"cluster": _CLUSTER, "hub": {**hub(probe="evil"), "evil": 1}, "targets": []})

    assert told.split("; ") == [
        "hub.probe: must be HOST/PROJECT/REPOSITORY/IMAGE[:TAG]",
        "hub.evil: Extra inputs are not permitted",
        "targets: Tuple should have at least 1 item after validation, not 0",
    ]


def test_what_is_built_wrongly_within_is_not_quoted_either() -> None:
    with pytest.raises(ValidationError) as refused:
        Target(namespace="Canary")

    assert "Canary" not in f"{refused.value} {refused.value!r}"


def test_what_is_as_usual_is_not_stored() -> None:
    """So that a default that changes changes for all who never chose otherwise."""
    cluster = Cluster(cluster=ClusterId.parse(_CLUSTER), hub="main", targets=(Target(secret="another"),))

    assert json.loads(cluster.to_json()) == {
        "cluster": str(cluster.cluster),
        "hub": "main",
        "targets": [{"secret": "another"}],
    }


def test_ten_thousand_targets_are_refused_at_once() -> None:
    document = {"cluster": _CLUSTER, "hub": "main", "targets": [{"secret": f"s{n}"} for n in range(10_000)]}
    started = time.process_time()

    told = _refusal(Cluster, json.dumps(document))

    assert told.startswith("targets: Tuple should have at most 16 items")
    assert time.process_time() - started < 1


def test_the_message_stays_short_whatever_is_wrong() -> None:
    assert len(_refusal(Target, {"x" * 1_000_000: 1, **{f"f{n}": 1 for n in range(10_000)}})) < 1000


def test_the_same_secret_twice_is_refused() -> None:
    document = {"cluster": _CLUSTER, "hub": "main", "targets": [{}, {"serviceAccounts": ["a"]}]}

    assert _refusal(Cluster, document) == "targets: the same secret is named twice"


@pytest.mark.parametrize(
    "server",
    [
        "http://aks.example", "https://user@aks.example", "https://aks.example/path", "https://aks.example\n",
        "https://aks.example:\u0661", "https://", "https://aks.example?x", "aks.example",
    ],
)  # fmt: skip
def test_an_api_servers_address_is_a_host_and_a_port(server: str) -> None:
    told = _refusal(Endpoint, {"server": server, "ca": "pem", "readAt": "2026-01-01T00:00:00Z"})

    assert told.startswith("server: ")


@pytest.mark.parametrize("when", ["2026-01-01T00:00:00", "soon", None])
def test_a_time_without_a_zone_is_no_time(when: Any) -> None:
    told = _refusal(Status, {"cluster": _CLUSTER, "nextDue": when})

    assert told.startswith("nextDue: ")


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
    service_accounts=st.lists(_label, max_size=3).map(tuple),
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
    category=_texts,
    detail=_texts,
    remedy=_texts,
    note=_texts,
)
_documents = st.one_of(
    _all(RefreshMessage, cluster=_clusters, reason=st.sampled_from(["due", "manual", "onboarding"])),
    _all(
        Cluster,
        cluster=_clusters,
        hub=_label | _hubs,
        targets=st.lists(_targets, min_size=1, max_size=3, unique_by=str).map(tuple),
        adopt=st.booleans(),
    ),
    _all(
        Status,
        cluster=_clusters,
        next_due=_moments,
        failures=st.integers(0, 99),
        life=st.timedeltas(timedelta(), timedelta(hours=12)),
        targets=st.dictionaries(st.text(), _target_statuses, max_size=3),
        endpoint=st.none() | _endpoints,
        located_at=_times,
    ),
)


@given(document=_documents)
def test_a_document_comes_back_from_its_json_as_it_was(document: Document) -> None:
    back = type(document).parse(document.to_json())

    assert json.loads(document.to_json()) == json.loads(back.to_json())
    assert document == back or isinstance(document, Cluster)  # a hub of its own leaves the pods' token file behind


@given(document=_documents)
def test_a_stored_document_speaks_camel_case(document: Document) -> None:
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
def test_how_a_secret_is(status: TargetStatus, state: str) -> None:
    assert state == status.state(datetime(2026, 1, 1, 12, tzinfo=UTC))
