"""When a hop refuses, the job ends with an exit code other than 0 and one line with the hop and the reason."""

import json
import re
from datetime import timedelta

import pytest

from local.serving import Fault
from tests.contract.conversation import until
from tests.in_cluster.conftest import Place
from tests.in_cluster.kubelet import Finished

pytestmark = pytest.mark.real


def output_line(ended: Finished) -> str:
    """The output, which must be one line."""
    assert ended.output.count("\n") == 1, ended.output
    return ended.output.removesuffix("\n").removeprefix("pullkeeper: ")


async def run_refused(place: Place) -> str:
    """Run the job, which must end with exit code 2 and write nothing. Returns its output."""
    ended = await place.run()
    assert ended.code == 2, ended.output
    assert (await place.secret())["code"] == 404
    return output_line(ended)


@pytest.mark.parametrize(
    ("change", "code", "text"),
    [
        ({"subject": "system:serviceaccount:other:deepintshield-sa"}, 700213, "assertion subject 'system:service"),
        ({"audience": "api://other"}, 700212, "assertion audience 'api://AzureADTokenExchange'"),
        ({"issuer": "https://other.example/"}, 700211, "assertion issuer 'https://127.0.0.1"),
    ],
)
async def test_a_federated_credential_that_does_not_fit(
    place: Place, change: dict[str, str], code: int, text: str
) -> None:
    place.federate(**change)
    await place.onboard()
    output = await run_refused(place)

    assert output.startswith(f"entra: HTTP 401: AADSTS{code}: No matching federated identity record found")
    assert text in output


async def test_an_issuer_with_an_additional_slash(place: Place) -> None:
    place.federate(issuer=f"{place.site.cluster.url}/")
    await place.onboard()

    assert "AADSTS700211" in await run_refused(place)


async def test_the_clusters_token_for_a_provider_of_the_tenant(place: Place) -> None:
    """The guide's job sends the cluster's token to a provider that trusts the tenant."""
    await place.onboard("kubernetes")
    output = await run_refused(place)

    issuer = re.escape(place.site.cluster.url)
    expected = re.escape(place.hub.provider.issuer)
    assert re.fullmatch(
        f"google sts: HTTP 400: The issuer in ID Token {issuer} does not match the expected one in config: {expected}",
        output,
    )


async def test_a_provider_with_another_audience(place: Place) -> None:
    await place.trust_cluster()
    place.hub.provider.allowed_audiences = frozenset({"api://other"})
    await place.onboard("kubernetes")

    assert await run_refused(place) == (
        "google sts: HTTP 400: The audience in ID Token [api://AzureADTokenExchange] does not match the expected "
        "audience."
    )


async def test_a_provider_with_another_identity(place: Place) -> None:
    place.allow("another-identity")
    await place.onboard()

    assert await run_refused(place) == (
        "google sts: HTTP 400: The given credential is rejected by the attribute condition."
    )


async def test_a_service_account_that_it_may_not_impersonate(place: Place) -> None:
    place.site.cloud.google.add_service_account(place.hub.service_account)
    await place.onboard()

    assert await run_refused(place) == (
        "google iam: HTTP 403: Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not "
        "exist)."
    )


async def test_a_token_that_the_registry_refuses_is_not_written(place: Place) -> None:
    repository = place.hub.image.rpartition("/")[0]
    place.site.cloud.registries[0].revoke(repository, f"serviceAccount:{place.hub.service_account}")
    await place.onboard()

    assert (await run_refused(place)).startswith(
        'registry: HTTP 403: Permission "artifactregistry.repositories.downloadArtifacts" denied'
    )


async def test_a_token_that_the_registry_refuses_is_not_written_even_if_the_image_is_gone(place: Place) -> None:
    registry = place.site.cloud.registries[0]
    registry.remove_image(place.hub.image)
    registry.revoke(place.hub.image.rpartition("/")[0], f"serviceAccount:{place.hub.service_account}")
    await place.onboard()

    assert (await run_refused(place)).startswith("registry: HTTP 403: Permission ")


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_manifest_refuses_the_token(place: Place, status: int) -> None:
    place.site.cloud.registry_parts[0].faults.add(Fault(path="/manifests/", status=status))
    await place.onboard()

    assert (await run_refused(place)).startswith(f"registry manifest: HTTP {status}: ")


async def test_a_missing_role(place: Place) -> None:
    await place.onboard()
    name = place.job["metadata"]["name"]
    rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{place.namespace}/rolebindings/{name}"
    await place.admin.delete(rbac)
    workload = await place.workload()
    path = f"/api/v1/namespaces/{place.namespace}/secrets/ar-pull-secret"
    bare = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "ar-pull-secret"}}
    await until(lambda: workload.apply(path, bare, dryRun="All"), lambda answer: answer.status == 403)
    output = await run_refused(place)

    assert output.startswith("kubernetes: HTTP 403: ")
    assert f'User "{place.subject}" cannot patch resource "secrets"' in output


async def test_a_service_that_is_down(place: Place) -> None:
    """It ends before the pod is stopped, with the exit code for a retry."""
    place.site.entra_faults.add(Fault(path="oauth2/v2.0/token", status=503, body="busy", content_type="text/plain"))
    await place.onboard()
    await _shorten_deadline(place)
    ended = await place.run()

    assert ended.code == 1
    assert output_line(ended) == "entra: HTTP 503: busy"


async def test_a_service_that_hangs(place: Place) -> None:
    place.site.entra_faults.add(Fault(path="oauth2/v2.0/token", hang=True))
    await place.onboard()
    await _shorten_deadline(place)
    ended = await place.run()

    assert ended.code == 1
    assert re.fullmatch(r"entra: 127\.0\.0\.1:\d+ did not respond: TimeoutError", output_line(ended))


async def test_a_redirect_is_not_followed(place: Place) -> None:
    elsewhere = {"Location": f"{place.site.cluster.url}/token"}
    place.site.entra_faults.add(Fault(path="oauth2/v2.0/token", status=302, headers=elsewhere))
    await place.onboard()

    assert (await run_refused(place)).startswith("entra: HTTP 302")


async def test_a_token_in_a_response_is_not_printed(place: Place) -> None:
    """`Place.run` searches the output for tokens as well."""
    body = json.dumps({"error": "x", "error_description": f"no: ya29.{'a' * 40} {_jwt()}"})
    place.site.entra_faults.add(Fault(path="oauth2/v2.0/token", status=400, body=body))
    await place.onboard()

    assert await run_refused(place) == "entra: HTTP 400: no: [redacted] [redacted]"


async def test_a_server_without_a_trusted_certificate_gets_no_token(place: Place) -> None:
    """An untrusted certificate is not retried."""
    await place.onboard()
    place.site.cloud.trust_file.rename(place.root / "aside.pem")
    place.site.cloud.trust_file.write_text(place.site.server.ca_pem)
    try:
        output = await run_refused(place)
    finally:
        (place.root / "aside.pem").rename(place.site.cloud.trust_file)

    assert re.fullmatch(r"entra: 127\.0\.0\.1:\d+ did not respond: SSLCertVerificationError", output)


def _jwt() -> str:
    return f"eyJ{'a' * 30}.eyJ{'b' * 30}.{'c' * 30}"


async def _shorten_deadline(place: Place) -> None:
    deadline = timedelta(seconds=3)
    path = f"/api/v1/namespaces/{place.namespace}/configmaps/{place.job['metadata']['name']}"
    settings = json.loads((await place.admin.get(path)).body["data"]["settings.json"])
    settings["deadlineSeconds"] = deadline.total_seconds()
    merge = {"data": {"settings.json": json.dumps(settings)}}
    changed = await place.admin.send("PATCH", path, merge, content_type="application/merge-patch+json")
    assert changed.status == 200
