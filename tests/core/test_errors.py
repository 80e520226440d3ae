"""Every failure category has a meaning, a remedy and a place that raises it; and no text contains a token."""

import ast
import base64
import json
import pickle
import string
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pullkeeper
from pullkeeper import errors
from pullkeeper.errors import PullkeeperError, categories, redact
from tests.core import azure_answers, google_answers, kubernetes_answers
from tests.core.answers import Answer

_CATEGORIES = list(categories())
_PACKAGE = Path(*pullkeeper.__path__)

# Every blank of a remedy, filled with the longest value that Azure, Google or Kubernetes allows.
_CLUSTER = (
    f"/subscriptions/0b1f6471-1bf0-4dda-aec3-cb9272f09590/resourceGroups/{'rg-platform_' * 7}prod()"
    f"/providers/Microsoft.ContainerService/managedClusters/{'aks-prod-' * 6}westeurop"
)
_CONTEXT = {
    "cluster": _CLUSTER,
    "namespace": "team-platform-" * 4 + "prod-eu",
    "secret": "ar-pull-secret-" * 6 + "deepintshield",
    "pod": "deepintshield-" * 4 + "6d5f7c9b8-x2k4q",
    "account": "team-platform-" * 4 + "prod-eu",
    "identity": "deepintshield-pull-identity-" + "aks-prod-" * 6 + "westeurop",
    "kind": "credential-config",
    "rule": "--verb=get --resource=configmaps --resource-name=gcp-credential-config",
    "operation": "/api/operations/0123456789abcdef0123456789abcdef",
    "queue": "onboarding-poison",
    "object": "serviceaccount/" + "team-platform-" * 4 + "prod-eu",
    "principal": "5f2a9c1e-7d3b-4e8f-9a6c-0b1d2e3f4a5b",
    "resource": "api://5f2a9c1e-7d3b-4e8f-9a6c-0b1d2e3f4a5b",
    "audience": "fb60f99c-7a34-4190-8149-302f77469936",
    "issuer": "https://login.microsoftonline.com/5f2a9c1e-7d3b-4e8f-9a6c-0b1d2e3f4a5b/v2.0",
    "project": "417300214096",
    "pool": "acme-corporation-eu-azure-pool-1",
    "service": "iamcredentials.googleapis.com",
    "consumer": "889403714106",
    "provider": "acme-corporation-eu-azure-prov-1",
    "service_account": "deepintshield-image-puller-prd@deepintshield-production-eu1.iam.gserviceaccount.com",
    "host": "northamerica-northeast1-docker.pkg.dev",
    "image": "northamerica-northeast1-docker.pkg.dev/deepintshield-production-eu1/acme/deepintshield:2026.1.0",
    "untagged": "northamerica-northeast1-docker.pkg.dev/deepintshield-production-eu1/acme/deepintshield",
    "registry_project": "deepintshield-production-eu1",
    "repository": "acme-corporation-europe-images",
    "location": "northamerica-northeast1",
    "subscription": "0b1f6471-1bf0-4dda-aec3-cb9272f09590",
    "group": "rg-platform_" * 7 + "prod",
    "name": "aks-prod-" * 6 + "westeurop",
    "own_identity": "deepintshield-pull-identity-" + "aks-prod-" * 6 + "westeurop",
    "linked_action": "Microsoft.OperationalInsights/workspaces/sharedkeys/read",
    "linked_scope": _CLUSTER,
    "locked_scope": _CLUSTER,
    "provider_namespace": "Microsoft.ContainerService",
    "policy_assignment": (
        "/providers/Microsoft.Management/managementGroups/the-customer-s-root-group/providers"
        "/Microsoft.Authorization/policyAssignments/5712913d870246df83e718b5"
    ),
    "member": "serviceAccount:deepintshield-image-puller-prd@deepintshield-production-eu1.iam.gserviceaccount.com",
}


def _all_kinds(of: type[PullkeeperError] = PullkeeperError) -> Iterator[type[PullkeeperError]]:
    for kind in of.__subclasses__():
        yield kind
        yield from _all_kinds(kind)


# The tree


def test_every_category_has_one_class() -> None:
    names = [kind.category for kind in _CATEGORIES]

    assert len(set(names)) == len(names) >= 30


@pytest.mark.parametrize("kind", _CATEGORIES, ids=lambda kind: kind.category)
def test_every_category_has_a_meaning_and_a_remedy(kind: type[PullkeeperError]) -> None:
    assert kind.category == kind.category.lower().replace(" ", "_")
    for text in (kind.meaning, kind.remedy_template):
        assert len(text) > 20
        assert "  " not in text
    assert kind.meaning.endswith(".")


@pytest.mark.parametrize("kind", _CATEGORIES, ids=lambda kind: kind.category)
def test_every_category_is_in_the_drawing(kind: type[PullkeeperError]) -> None:
    """By name, by its family's `name_*`, or by its class."""
    drawing = errors.__doc__ or ""
    family = f"{kind.category.partition('_')[0]}_*"

    assert any(word in drawing for word in (kind.category, family, kind.__name__))


@pytest.mark.parametrize("kind", [*_all_kinds()], ids=lambda kind: kind.__name__)
def test_a_remedy_keeps_placeholders_of_unknown_names(kind: type[PullkeeperError]) -> None:
    blanks = {name for _, name, _, _ in string.Formatter().parse(kind.remedy_template) if name}

    remedy = kind("detail").remedy

    assert blanks <= set(_CONTEXT)
    assert all(f"<{name}>" in remedy for name in blanks)


@pytest.mark.parametrize("kind", [*_all_kinds()], ids=lambda kind: kind.__name__)
def test_a_remedy_has_every_name_in_full(kind: type[PullkeeperError]) -> None:
    """The command is pasted as it is: nothing is cut off, no name is redacted."""
    expected = kind.remedy_template.format_map(_CONTEXT)

    assert expected == kind("detail", _CONTEXT).final_remedy


@pytest.mark.parametrize("kind", [*_all_kinds()], ids=lambda kind: kind.__name__)
def test_a_remedy_says_that_it_is_retried_exactly_where_it_is(kind: type[PullkeeperError]) -> None:
    failure = kind("detail", _CONTEXT)

    assert failure.remedy.startswith("Wait: it is retried. If it lasts: ") == kind.retryable
    assert failure.remedy.endswith(failure.final_remedy)
    assert "Wait: it is retried" not in failure.final_remedy
    assert kind.retryable or not kind.is_wait


def test_operations_wait_for_throttling_and_for_changes_under_way() -> None:
    """Within a category most failures are retried alike."""
    kinds = [kind for kind in _all_kinds() if kind.__module__ == errors.__name__]
    of_category = {kind.category: kind.retryable for kind in _CATEGORIES}
    others = {kind for kind in kinds if kind.retryable != of_category[kind.category]}
    assert others == {errors.AdmissionUnavailable, errors.DeadlinePassed}
    assert {kind for kind in kinds if kind.is_wait} == {
        errors.ArmThrottled,
        errors.ClusterChanging,
        errors.ClusterThrottled,
        errors.EntraThrottled,
        errors.FederatedCredentialBusy,
        errors.GoogleThrottled,
    }


def test_a_value_with_braces_is_no_placeholder() -> None:
    failure = errors.NamespaceMissing("detail", {"namespace": "{cluster} {0} {namespace.x}"})

    assert "{cluster} {0} {namespace.x}" in failure.remedy


def test_a_token_in_the_context_is_redacted_in_the_remedy() -> None:
    remedy = errors.NamespaceMissing("detail", {"namespace": "ya29.canary " + "n " * 1000}).remedy

    assert "canary" not in remedy
    assert remedy.endswith("...")
    assert len(remedy) < 1000


@pytest.mark.parametrize("kind", [*_all_kinds()], ids=lambda kind: kind.__name__)
def test_with_context_returns_a_new_failure(kind: type[PullkeeperError]) -> None:
    """One refusal by Google is raised for every cluster of the hub, each with its own context."""
    first = kind("refused", {"namespace": "near"}, retry_after=timedelta(seconds=3))

    second = first.with_context(namespace="far", cluster="c1")

    assert (kind, first.detail, first.retry_after) == (type(second), second.detail, second.retry_after)
    assert second.context == {"namespace": "near", "cluster": "c1"}
    assert first.context == {"namespace": "near"}
    assert str(second) == f"{kind.category}: refused"


def test_a_failure_copies_its_context() -> None:
    context = {"namespace": "d"}
    failure = errors.NamespaceMissing("x", context)
    context["namespace"] = "changed"

    assert failure.context == {"namespace": "d"}


def test_a_failure_survives_a_pickle() -> None:
    """As pytest-xdist and multiprocessing do it."""
    failure = pickle.loads(pickle.dumps(errors.NamespaceMissing("x", {"namespace": "d"})))

    assert (failure.detail, failure.context) == ("x", {"namespace": "d"})


# Retry-After


@pytest.mark.parametrize(
    ("header", "asked"),
    [
        ("30", timedelta(seconds=30)),
        ("0", timedelta()),
        ("", None),
        ("Fri, 31 Dec 1999 23:59:59 GMT", None),
        ("-1", None),
        ("1.5", None),
        ("\u0663", None),
        ("999999999", timedelta(hours=1)),
        ("9" * 30, None),
        ("9" * 5000, None),
    ],
    ids=lambda value: str(value)[:30],
)
def test_retry_after_is_a_number_of_seconds_up_to_an_hour(header: str, asked: timedelta | None) -> None:
    assert errors.parse_retry_after({"Retry-After": header}) == asked


def test_without_the_header_there_is_no_wait() -> None:
    assert errors.parse_retry_after({}) is None


# Reachable


def _raised() -> Iterator[str]:
    """Names of classes that the package raises or returns as failures: called, or chosen from to be called."""
    for path in _PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                yield from _named(node.func)
                # map_errors(..., missing=ClusterGone): what a 404 means there.
                for keyword in node.keywords:
                    yield from _named(keyword.value)
            elif isinstance(node, ast.Assign) and isinstance(node.value, ast.IfExp):
                yield from _named(node.value)


def _named(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Name):
        yield node.id
    elif isinstance(node, ast.Attribute):
        yield node.attr
    elif isinstance(node, ast.IfExp):
        yield from _named(node.body)
        yield from _named(node.orelse)


def test_every_category_is_raised_somewhere() -> None:
    """Each is raised by name in the package, or is what one of the services' answers is known to mean."""
    raised = set(_raised())
    google = (*google_answers.KNOWN, *google_answers.UNKNOWN)
    answers = (*google, *kubernetes_answers.ANSWERS, *azure_answers.ANSWERS, *azure_answers.TEMPORARY)
    reached = {kind.category for kind in _all_kinds() if kind.__name__ in raised}
    reached |= {answer.kind.category for answer in answers}

    assert {kind.category for kind in _CATEGORIES} == reached


# Tokens


_JWT = (
    "eyJhbGciOiJSUzI1NiIsImtpZCI6ImsxIn0.eyJhdWQiOiJhcGk6Ly9BenVyZUFEVG9rZW5FeGNoYW5nZSJ9"
    ".c2lnbmF0dXJlLXdpdGgtXy1hbmQtLQ"
)
_GOOGLE = "ya29.c.c0AYnqXlh-3_Zk7canaryQpWx"
_FEDERATED = "ya29.d.b0Aaekm1K8canary-_Zk7QpWx"
_BASIC = base64.b64encode(f"oauth2accesstoken:{_GOOGLE}".encode()).decode()
_DOCKER = {"auths": {"europe-docker.pkg.dev": {"username": "oauth2accesstoken", "password": _GOOGLE, "auth": _BASIC}}}
_PRIVATE_KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA1/canary\nx/y+z/AbC==\n-----END RSA PRIVATE KEY-----\n"


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        pytest.param(_JWT, _JWT, id="JWT"),
        pytest.param(_JWT.rpartition(".")[0], _JWT.rpartition(".")[0], id="JWT without its signature"),
        pytest.param(_GOOGLE, _GOOGLE, id="Google access token"),
        pytest.param("ya29.canary", "ya29.canary", id="short Google access token"),
        pytest.param(_FEDERATED, _FEDERATED, id="federated token"),
        pytest.param(f"Bearer {_GOOGLE}", _GOOGLE, id="bearer"),
        pytest.param("Bearer 8xLOxBtZp8", "8xLOxBtZp8", id="bearer of an unknown kind"),
        pytest.param("BEARER  8xLOxBtZp8", "8xLOxBtZp8", id="bearer, shouted"),
        pytest.param("Authorization: Basic dTpwYXNzd29yZA==", "dTpwYXNzd29yZA==", id="basic"),
        pytest.param(_BASIC, _BASIC, id="base64 of user and password"),
        pytest.param(json.dumps(_DOCKER), _GOOGLE, id="docker configuration"),
        pytest.param(json.dumps(_DOCKER), _BASIC, id="what docker makes of it"),
        pytest.param(*[_base64(json.dumps(_DOCKER))] * 2, id="base64 of a docker configuration"),
        pytest.param(*[_base64(json.dumps(_DOCKER, indent=2))] * 2, id="base64 of an indented docker configuration"),
        pytest.param(*[_base64(_base64(json.dumps(_DOCKER)))] * 2, id="base64 twice"),
        pytest.param(*[_base64(_GOOGLE)] * 2, id="base64 of a token"),
        pytest.param(*["AOJ5" + "kQ2z_-8x" * 8] * 2, id="opaque token of a registry"),
        pytest.param(*["kQ2z_-8x" * 6] * 2, id="opaque token of 48 characters"),
        pytest.param(_PRIVATE_KEY, "MIIEpAIBAAKCAQEA1/canary", id="private key"),
        pytest.param(json.dumps(_PRIVATE_KEY), "x/y+z/AbC==", id="private key in JSON"),
        pytest.param(*[_base64(_PRIVATE_KEY)] * 2, id="private key as kubeconfigs hold it"),
    ],
)
@pytest.mark.parametrize("around", ["{}", "the request was {}, which is wrong", '"{}"', "x={}&y=1", "[{}]", "'{}'\n"])
def test_every_kind_of_token_is_redacted(text: str, secret: str, around: str) -> None:
    """No 10 characters in a row are left."""
    redacted = redact(around.format(text))

    runs = {secret[at : at + 10] for at in range(len(secret) - 9)}
    assert [run for run in sorted(runs) if run in redacted] == []


@given(payload=st.dictionaries(st.text(), st.text(min_size=1), min_size=1), cut=st.integers(0, 4000))
def test_a_json_web_token_is_redacted_anywhere(payload: dict[str, str], cut: int) -> None:
    body = base64.urlsafe_b64encode(json.dumps(payload).encode()).rstrip(b"=").decode()
    token = f"{_JWT.partition('.')[0]}.{body}.c2lnbmF0dXJl"

    assert body[:16] not in redact("x " * cut + token)


@pytest.mark.parametrize("before", range(553, 600, 6))
def test_a_token_of_which_the_cut_would_leave_less_than_a_token_is_redacted(before: int) -> None:
    """Redacted first, then cut: up to 47 characters have no shape by which they could be recognised."""
    assert "Zk7" not in redact("." * (before - 1) + " " + "Zk7QpWx8" * 20)


@pytest.mark.parametrize("token", [_JWT, _GOOGLE, _BASIC, _base64(_GOOGLE), f"{'Zk7QpWx8' * 9}.{_JWT}"])
def test_a_token_in_place_of_googles_identifier_is_redacted(token: str) -> None:
    redacted = redact(f"policy. vpcServiceControlsUniqueIdentifier: {token}")

    runs = {token[at : at + 10] for at in range(len(token) - 9)}
    assert [run for run in sorted(runs) if run in redacted] == []


@given(text=st.text())
def test_redacting_twice_changes_nothing(text: str) -> None:
    once = redact(text * 20)

    assert once == redact(once)


def test_a_long_text_is_cut() -> None:
    assert len(redact("ab " * 100_000)) == 603


@pytest.mark.parametrize("text", ["a" * 1_000_000, "eyJ" * 300_000, "Bearer " * 150_000, "-----BEGIN A" * 80_000])
def test_a_huge_text_is_redacted_fast(text: str) -> None:
    assert len(redact(text)) < 700


_PLAIN = [
    _CLUSTER,
    *_CONTEXT.values(),
    (
        "The Resource 'Microsoft.ContainerService/managedClusters/aks-prod-westeurope-platform-001' under resource "
        "group 'rg-prod' was not found. For more details please go to https://aka.ms/ARMResourceNotFoundFix"
    ),
    (
        "The client '5f2a9c1e-7d3b-4e8f-9a6c-0b1d2e3f4a5b' with object id '5f2a9c1e-7d3b-4e8f-9a6c-0b1d2e3f4a5b' does "
        "not have authorization to perform action "
        "'Microsoft.ContainerService/managedClusters/listClusterUserCredential/action' "
        f"over scope '{_CLUSTER}' or the scope is invalid."
    ),
    "Issuer and subject combination already exists for this Managed Identity.",
    "ConcurrentFederatedIdentityCredentialsWritesForSingleManagedIdentity",
    "No User Assigned or Delegated Managed Identity found for specified ClientId/ResourceId/PrincipalId.",
    "AADSTS500011: The resource principal named api://5f2a9c1e-7d3b-4e8f-9a6c-0b1d2e3f4a5b was not found in the tenant",
    (
        "AADSTS700211: No matching federated identity record found for presented assertion issuer "
        "'https://westeurope.oic.prod-aks.azure.com/0b1f6471-1bf0-4dda-aec3-cb9272f09590/"
        "5f2a9c1e-7d3b-4e8f-9a6c-0b1d2e3f4a5b/'. Please check your federated identity credential Subject, Audience and "
        "Issuer against the presented assertion."
    ),
    (
        'Permission "artifactregistry.repositories.downloadArtifacts" denied on resource '
        '"projects/deepintshield-prod/locations/europe/repositories/acme" (or it may not exist)'
    ),
    'Bearer realm="https://europe-docker.pkg.dev/v2/token",service="europe-docker.pkg.dev",scope="repository:a/b:pull"',
    "Basic authentication is not supported, bearer authentication is.",
    "image@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "system:serviceaccount:deepintshield:deepintshield-sa",
    (
        "cannot connect to aks-prod-westeurope-platform-001-dns-4f2a9c1e.hcp.westeurope.azmk8s.io:443 ssl:True "
        "[SSLCertVerificationError: (1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: unable to get "
        "local issuer certificate (_ssl.c:1006)')]"
    ),
    "gke-platform-production-westeurope-kubernetes-shared-cluster-nodes-secret",
]


def _message_of(answer: Answer) -> str:
    """The message in a service's error body."""
    try:
        body = json.loads(answer.body)
        return str(body.get("message") or body.get("error_description") or body["error"]["message"])
    except (ValueError, AttributeError, KeyError, TypeError):
        return str(answer.body)


@pytest.mark.parametrize(
    "text",
    [
        *_PLAIN,
        *map(_message_of, google_answers.KNOWN),
        *map(_message_of, kubernetes_answers.ANSWERS),
        *map(_message_of, azure_answers.ANSWERS),
    ],
    ids=lambda text: text[:30],
)
def test_messages_of_the_services_are_not_redacted(text: str) -> None:
    assert text == redact(text, len(text))
