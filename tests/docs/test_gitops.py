"""The page about GitOps: its manifests are valid, and applied again they leave alone what Pullkeeper has written."""

import json
import shlex
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml
from kubernetes_validate import utils as kubernetes_validate

from pullkeeper.cluster import pull_secret
from pullkeeper.cluster.ownership import MANAGER
from pullkeeper.model import Target
from pullkeeper.tokens import Token
from tests.core.publisher import parsed_hub
from tests.docs.conftest import Terminal
from tests.docs.pages import ROOT, blocks

PAGE = ROOT / "docs" / "gitops.md"
TARGET = Target()
ACCOUNT = "shop"
APPLY = "kubectl apply --server-side --force-conflicts --field-manager=kustomize-controller -f - <<<{}"

GRANT = 'kubectl create clusterrolebinding gitops-test --clusterrole=cluster-admin --user="$PRINCIPAL"'


def manifests(*, own: bool) -> list[dict[str, Any]]:
    """Return the page's manifests: of Kubernetes' own kinds, or of the controllers."""
    found = [one for block in blocks("yaml") if block.page == PAGE for one in yaml.safe_load_all(block.text)]
    return [one for one in found if own != ("argoproj" in one["apiVersion"] or "fluxcd" in one["apiVersion"])]


@pytest.mark.parametrize("minor", range(30, 38))
def test_the_manifests_are_valid(minor: int) -> None:
    for manifest in manifests(own=True):
        kubernetes_validate.validate(manifest, f"1.{minor}", strict=True)


def test_no_manifest_is_a_secret_and_the_pod_names_the_default_one() -> None:
    own = {one["kind"]: one for one in manifests(own=True)}
    assert own.keys() == {"Namespace", "ServiceAccount", "Deployment"}
    assert own["Deployment"]["spec"]["template"]["spec"]["imagePullSecrets"] == [{"name": TARGET.secret}]
    assert own["Namespace"]["metadata"]["name"] == TARGET.namespace
    assert "imagePullSecrets" not in own["ServiceAccount"]


def test_argo_cd_ignores_the_fields_that_pullkeeper_owns() -> None:
    kinds = {one["kind"]: one["spec"] for one in manifests(own=False)}
    [ignored] = kinds["Application"]["ignoreDifferences"]
    assert (ignored["kind"], ignored["managedFieldsManagers"]) == ("ServiceAccount", [MANAGER])
    assert "RespectIgnoreDifferences=true" in kinds["Application"]["syncPolicy"]["syncOptions"]
    assert kinds["AppProject"]["orphanedResources"]["ignore"] == [{"kind": "Secret", "name": TARGET.secret}]


@pytest.mark.real
@pytest.mark.servers
@pytest.mark.asyncio(loop_scope="module")
async def test_a_sync_leaves_alone_what_pullkeeper_has_written(terminal: Terminal) -> None:
    """Applied as Flux does, with force, before and after a refresh."""
    await terminal.run(GRANT)
    apply = APPLY.format(shlex.quote(yaml.safe_dump_all(manifests(own=True))))
    await terminal.run(apply)
    now = datetime.now(UTC)
    token = Token("ya29.from-pullkeeper", now, now + timedelta(hours=1))
    async with terminal.connect_as_app() as api:
        await pull_secret.write(api, TARGET, parsed_hub(), token, known_uid=None, adopt=False)
        await pull_secret.add_reference(api, TARGET, ACCOUNT)
    before = await _read(terminal)
    await terminal.run(apply)
    assert before == await _read(terminal)
    [check] = (block.text for block in blocks("bash") if block.page == PAGE)
    assert await terminal.run(check) == f"{MANAGER}\n"
    account = json.loads(await terminal.run(f'kubectl get serviceaccount {ACCOUNT} -n "$NAMESPACE" -o json'))
    assert account["imagePullSecrets"] == [{"name": TARGET.secret}]


async def _read(terminal: Terminal) -> str:
    return await terminal.run(
        f'kubectl get secret/"$SECRET" serviceaccount/{ACCOUNT} -n "$NAMESPACE" -o json '
        "| jq '.items[] | del(.metadata.resourceVersion)'"
    )
