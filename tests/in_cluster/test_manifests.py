"""The manifests by themselves: valid in every supported Kubernetes version, and without the guide's defects."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from functools import cache, lru_cache
from typing import Any

import pytest
import yaml
from kubernetes_validate import utils as kubernetes_validate

from pullkeeper.clouds import CLOUDS
from pullkeeper.cluster import manifests, rights
from pullkeeper.cluster.in_cluster import Chain, build_refresher, schedule
from pullkeeper.errors import InvalidRequest
from pullkeeper.model import SelectorTarget, Target
from tests.core.publisher import credential_config, parsed_hub

TENANT = "11111111-2222-3333-4444-555555555555"
CLIENT = "66666666-7777-8888-9999-000000000000"
CLOUD = CLOUDS["AzurePublic"]
TARGET = Target(service_accounts=("deepintshield-sa",))
SELECTOR = SelectorTarget.parse(
    {"namespaceSelector": {"matchLabels": {"team": "a"}}, "serviceAccounts": ["default"], "prune": True}
)
FIRST_WITH_POLICIES = 30
HUB = parsed_hub()


def build(chain: Chain = "entra", target: Target | None = None, **options: Any) -> list[dict[str, Any]]:
    return list(build_refresher(target or TARGET, HUB, CLIENT, TENANT, chain, cloud=CLOUD, **options))


def target(secret: str) -> Target:
    return Target(secret=secret, service_accounts=TARGET.service_accounts)


def pod_of(job: dict[str, Any]) -> dict[str, Any]:
    pod: dict[str, Any] = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    return pod


def settings_of(config: dict[str, Any]) -> dict[str, Any]:
    settings: dict[str, Any] = json.loads(config["data"]["settings.json"])
    return settings


@cache
def read_kinds() -> set[str]:
    files = manifests._FOLDER.glob("*.yaml")
    return {one["kind"] for file in files for one in yaml.safe_load_all(file.read_text(encoding="utf-8"))}


@pytest.fixture(autouse=True, scope="module")
def _schemas_are_read_once() -> Iterator[None]:
    """The definitions of a version are a megabyte, which the library reads for each manifest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kubernetes_validate, "schema_contents", lru_cache(50)(kubernetes_validate.schema_contents))
        yield


@pytest.mark.parametrize("minor", range(25, 38))
def test_every_supported_version_has_every_field(minor: int) -> None:
    around = [
        manifests.namespace("deepintshield"),
        manifests.service_account("deepintshield", "deepintshield-sa", CLIENT),
        manifests.credential_config_map("deepintshield", HUB.credential_config),
        *rights.access([TARGET, SELECTOR], CLIENT),
        *manifests.workload(TARGET, "deepintshield-sa", image=HUB.probe, replicas=2, config_secret="config"),
    ]
    policy = rights.admission_policy([TARGET, SELECTOR], CLIENT)
    everything = [*build("entra"), *build("kubernetes"), *around, *policy]
    assert {manifest["kind"] for manifest in everything} == read_kinds(), "a manifest without a test"
    for manifest in everything if minor >= FIRST_WITH_POLICIES else [*everything[: -len(policy)]]:
        kubernetes_validate.validate(manifest, f"1.{minor}", strict=True)


def test_an_unknown_field_would_be_found() -> None:
    *_, job = build()
    job["spec"]["concurrency"] = "Forbid"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(job, "1.37", strict=True)


def test_defect_1_and_2_no_program_but_python_is_needed() -> None:
    """The guide calls gcloud, which does not read the configuration in this way, and kubectl, which its image lacks."""
    *_, job = build()
    [container] = pod_of(job)["containers"]
    assert container["command"] == ["python3", "-I", "/pullkeeper/refresh.py"]


def test_defect_3_the_chain_fits_the_issuer_that_the_provider_trusts() -> None:
    _, _, entra, job = build("entra")
    _, _, kubernetes, _ = build("kubernetes")
    *_, subject = pod_of(job)["volumes"][0]["projected"]["sources"]
    assert settings_of(entra)["entra"] == {
        "url": f"https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/token",
        "clientId": CLIENT,
        "scope": "api://AzureADTokenExchange/.default",
    }
    assert settings_of(kubernetes)["entra"] is None
    assert subject["serviceAccountToken"]["audience"] == "api://AzureADTokenExchange"


def test_defect_3_a_token_for_google_is_of_no_use_at_entra() -> None:
    """With an app registration of its own; a token for Entra stays one."""
    expected: dict[Chain, tuple[str, str | None]] = {
        "kubernetes": ("api://hub", None),
        "entra": ("api://AzureADTokenExchange", "api://hub/.default"),
    }
    for chain, (audience, scope) in expected.items():
        hub = parsed_hub(entraResource="api://hub")
        *_, config, job = build_refresher(TARGET, hub, CLIENT, TENANT, chain, cloud=CLOUD)
        *_, subject = pod_of(job)["volumes"][0]["projected"]["sources"]
        assert subject["serviceAccountToken"]["audience"] == audience
        assert (settings_of(config)["entra"] or {}).get("scope") == scope


def test_defect_3_an_authority_may_end_with_a_slash() -> None:
    cloud = replace(CLOUD, authority="https://entra.example/")
    _, _, config, _ = build_refresher(TARGET, HUB, CLIENT, TENANT, cloud=cloud)
    assert settings_of(config)["entra"]["url"] == f"https://entra.example/{TENANT}/oauth2/v2.0/token"


def test_defect_3_without_an_identity_there_is_no_entra_chain() -> None:
    with pytest.raises(InvalidRequest, match="needs a managed identity"):
        list(build_refresher(TARGET, HUB, None, TENANT, cloud=CLOUD))
    assert list(build_refresher(TARGET, HUB, None, TENANT, "kubernetes", cloud=CLOUD))


def test_defect_4_nothing_is_ever_deleted() -> None:
    _, _, config, _ = build()
    assert "DELETE" not in config["data"]["refresh.py"]


def test_defect_5_the_role_is_two_verbs_on_one_name() -> None:
    role, *_ = build(target=target("theirs"))
    assert role["rules"] == [
        {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["theirs"], "verbs": ["patch", "create"]}
    ]


def test_a_secret_of_another_owner_is_taken_over_on_request_only() -> None:
    assert [settings_of(one[2])["adopt"] for one in (build(), build(adopt=True))] == [False, True]


def test_defect_6_the_job_is_bounded() -> None:
    *_, config, job = build()
    spec, pod = job["spec"], pod_of(job)
    work = spec["jobTemplate"]["spec"]
    [container] = pod["containers"]
    assert spec["concurrencyPolicy"] == "Forbid"
    assert spec["startingDeadlineSeconds"] == 600
    assert (spec["successfulJobsHistoryLimit"], spec["failedJobsHistoryLimit"]) == (1, 3)
    assert (work["activeDeadlineSeconds"], work["backoffLimit"]) == (600, 4)
    assert settings_of(config)["deadlineSeconds"] <= 600 / (1 + 4), "there is time for each of its pods"
    assert work["activeDeadlineSeconds"] < 20 * 60, "it ends before the next run is due"
    assert container["resources"] == {
        "requests": {"cpu": "20m", "memory": "48Mi"},
        "limits": {"cpu": "500m", "memory": "96Mi"},
    }
    assert container["imagePullPolicy"] == "IfNotPresent", "its registry is not asked at each run"
    assert {"automountServiceAccountToken": False, "enableServiceLinks": False}.items() <= pod.items()
    assert (pod["restartPolicy"], pod["nodeSelector"]) == ("Never", {"kubernetes.io/os": "linux"})
    assert container["terminationMessagePolicy"] == "FallbackToLogsOnError"
    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "fsGroup": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
    }, "the group reads the tokens where a sidecar runs as another user"
    assert container["volumeMounts"] == [{"name": "pullkeeper", "mountPath": "/pullkeeper", "readOnly": True}]
    tokens = [one["serviceAccountToken"] for one in pod["volumes"][0]["projected"]["sources"][2:]]
    assert [one["expirationSeconds"] for one in tokens] == [600, 3600]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_defect_6_the_image_is_pinned_and_can_be_replaced() -> None:
    *_, job = build(image=f"registry.example/python@sha256:{'0' * 64}")
    assert pod_of(job)["containers"][0]["image"] == f"registry.example/python@sha256:{'0' * 64}"
    *_, job = build()
    image = pod_of(job)["containers"][0]["image"]
    assert re.fullmatch(r"docker\.io/library/python:3\.\d+\.\d+-alpine3\.\d+", image), "versions, and no moving tag"


@pytest.mark.parametrize(
    ("life", "expected"),
    [
        (timedelta(hours=1), "*/20 * * * *"),
        (timedelta(hours=12), "*/20 * * * *"),
        (timedelta(minutes=59), "*/15 * * * *"),
        (timedelta(minutes=10), "*/3 * * * *"),
        (timedelta(minutes=6), "*/2 * * * *"),
        (timedelta(minutes=1), "*/1 * * * *"),
    ],
)
def test_defect_7_the_schedule_is_a_third_of_the_life(life: timedelta, expected: str) -> None:
    assert expected == schedule(life)


def test_values_are_set_everywhere() -> None:
    target = Target(namespace="their-space", secret="their.secret", service_accounts=("their-app",))
    role, binding, config, job = build(target=target)
    names = {manifest["metadata"]["name"] for manifest in (role, binding, config, job)}
    assert len(names) == 1
    assert {manifest["metadata"]["namespace"] for manifest in (role, binding, config, job)} == {"their-space"}
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "their-app", "namespace": "their-space"}]
    assert pod_of(job)["serviceAccountName"] == "their-app"
    assert pod_of(job)["volumes"][0]["projected"]["sources"][0] == {"configMap": {"name": config["metadata"]["name"]}}
    assert "deepintshield-sa" not in json.dumps([role, binding, config, job])
    assert "ar-pull-secret" not in json.dumps([role, binding, config, job])


def test_the_job_has_the_values_of_its_hub() -> None:
    hub = parsed_hub(tokenLifetime=1800, scope="https://www.googleapis.com/auth/cloud-platform")
    _, _, config, _ = build_refresher(TARGET, hub, CLIENT, TENANT, cloud=CLOUD)
    settings = settings_of(config)
    assert settings["registries"] == [*hub.registries]
    assert settings["probe"]["tokenUrl"] == hub.probe_image.token_url
    assert settings["probe"]["manifestUrl"] == hub.probe_image.manifest_url
    assert "application/vnd.oci.image.index.v1+json" in settings["probe"]["accept"], (
        "an image may have several platforms"
    )
    assert settings["google"] == {
        "audience": hub.credential_config.audience,
        "subjectTokenType": "urn:ietf:params:oauth:token-type:jwt",
        "tokenUrl": hub.credential_config.token_url,
        "impersonationUrl": hub.credential_config.service_account_impersonation_url,
        "scope": "https://www.googleapis.com/auth/cloud-platform",
        "lifetime": 1800,
    }


@pytest.mark.parametrize(("accounts", "said"), [((), "Google refuses this"), (("one", "two"), "run as one, two.")])
def test_the_credential_configuration_says_whose_tokens_google_accepts(accounts: tuple[str, ...], said: str) -> None:
    config = manifests.credential_config_map("deepintshield", HUB.credential_config, accounts)
    assert said in config["metadata"]["annotations"]["kubernetes.io/description"]
    document = {**credential_config(), "universe_domain": "googleapis.com"}
    assert json.loads(config["data"]["credential-config.json"]) == document


def test_a_workload_has_the_values_of_its_target() -> None:
    target = Target(namespace="their-space", secret="their.secret")
    values: dict[str, Any] = {"image": "image", "replicas": 7, "config_secret": "their-config"}
    deployment, service = manifests.workload(target, "their-app", **values)
    assert deployment["metadata"]["namespace"] == service["metadata"]["namespace"] == "their-space"
    pod = deployment["spec"]["template"]["spec"]
    assert (deployment["spec"]["replicas"], pod["serviceAccountName"]) == (7, "their-app")
    assert pod["imagePullSecrets"] == [{"name": "their.secret"}]
    assert pod["containers"][0]["image"] == "image"
    assert pod["volumes"][0]["secret"]["secretName"] == "their-config"
    assert pod["containers"][0]["volumeMounts"] == [
        {"name": "config", "mountPath": "/app/data/config.json", "subPath": "config.json"}
    ], "where the guide mounts it"
    assert pod["containers"][0]["resources"]["limits"] == {"cpu": "1", "memory": "2Gi"}
    assert service["spec"]["ports"] == [{"port": 80, "targetPort": 8080, "protocol": "TCP"}]
    assert service["spec"]["selector"] == deployment["spec"]["selector"]["matchLabels"] == {"app": "deepintshield"}
    labels = {"app": "deepintshield", "azure.workload.identity/use": "true"}
    assert deployment["spec"]["template"]["metadata"]["labels"] == labels, "its pods get a token"
    probes = [pod["containers"][0][name]["httpGet"]["path"] for name in ("livenessProbe", "readinessProbe")]
    assert probes == ["/health"] * 2


@pytest.mark.parametrize("secret", [".".join(["a" * 62] * 4), "a.b", "ar-pull-secret", f"{'a' * 43}.b", f"{'a' * 45}"])
def test_names_are_valid_for_a_cron_job(secret: str) -> None:
    names = {build(target=target(name))[3]["metadata"]["name"] for name in (secret, f"{secret[:-1]}x")}
    assert len(names) == 2, "two secrets never share a job"
    for name in names:
        assert len(name) <= 52
        assert "." not in name
