"""The manifests of onboarding: YAML that is parsed first. Values are put into the parsed tree, never into text, so that
no value can become structure.
"""

import copy
import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

from pullkeeper.model import Target
from pullkeeper.publisher.credential_config import CredentialConfig

_FOLDER: Final = Path(__file__).parents[2] / "manifests"
TOKEN_FILE: Final = "/var/run/secrets/azure/tokens/azure-identity-token"


def namespace(name: str) -> dict[str, Any]:
    manifest = load("namespace")
    manifest["metadata"]["name"] = name
    return manifest


def service_account(namespace: str, name: str, client_id: str | None) -> dict[str, Any]:
    """A service account, with the client id of its pods' identity if it has one."""
    manifest = load("service-account")
    metadata = manifest["metadata"]
    metadata |= {"name": name, "namespace": namespace}
    if client_id is None:
        del metadata["labels"], metadata["annotations"]
    else:
        metadata["annotations"]["azure.workload.identity/client-id"] = client_id
    return manifest


def credential_config_map(
    namespace: str, config: CredentialConfig | None, trusted_accounts: Iterable[str] = ()
) -> dict[str, Any]:
    """The ConfigMap for pods that call Google themselves, built from the configuration's ids; without one, empty.

    trusted_accounts: service accounts whose tokens of the cluster the provider trusts. Without any, the description in
    the manifest says that Google refuses them.
    """
    manifest = load("credential-config")
    manifest["metadata"]["namespace"] = namespace
    if config is None:
        return manifest
    source = {"file": TOKEN_FILE, "format": {"type": "text"}}
    document = {**config.model_dump(exclude_none=True), "credential_source": source}
    if accounts := ", ".join(trusted_accounts):
        manifest["metadata"]["annotations"]["kubernetes.io/description"] = (
            f"For pods with the label azure.workload.identity/use: true that run as {accounts}. Google accepts their "
            "tokens. It refuses those of other service accounts."
        )
    manifest["data"] = {"credential-config.json": json.dumps(document, indent=2)}
    return manifest


def workload(
    target: Target, service_account: str, *, image: str, replicas: int, config_secret: str
) -> Iterator[dict[str, Any]]:
    """The publisher's Deployment and Service."""
    for manifest in (load("workload-deployment"), load("workload-service")):
        manifest["metadata"]["namespace"] = target.namespace
        if manifest["kind"] == "Deployment":
            manifest["spec"]["replicas"] = replicas
            pod = manifest["spec"]["template"]["spec"]
            pod["serviceAccountName"] = service_account
            pod["imagePullSecrets"] = [{"name": target.secret}]
            pod["containers"][0]["image"] = image
            pod["volumes"][0]["secret"]["secretName"] = config_secret
        yield manifest


def as_text(manifests: Iterable[Mapping[str, Any]]) -> str:
    """YAML for `kubectl apply --server-side --field-manager=pullkeeper -f -`."""
    return yaml.safe_dump_all(manifests, sort_keys=False)


def load(name: str) -> dict[str, Any]:
    """Return a manifest of the folder, to put values into."""
    return copy.deepcopy(_parse(name))


@cache
def _parse(name: str) -> dict[str, Any]:
    """An onboarding needs each file several times, and parsing one takes milliseconds."""
    manifest: dict[str, Any] = yaml.safe_load((_FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    return manifest
