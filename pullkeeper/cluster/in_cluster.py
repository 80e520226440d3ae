"""The in-cluster refresher: a CronJob that keeps one pull secret fresh from inside the cluster.

It is for owners who allow no permanent access from outside, and for clusters that the app cannot reach. It writes the
same secret as the central refresher, with the same field manager and annotations, so either can replace the other.
"""

import copy
import hashlib
import json
import re
from collections.abc import Iterator
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

import yaml

from pullkeeper.clouds import AzureCloud
from pullkeeper.errors import InvalidRequest
from pullkeeper.model import Target
from pullkeeper.publisher.hub import MANIFEST_TYPES, Hub

Chain = Literal["entra", "kubernetes"]

_DEADLINE: Final = timedelta(seconds=120)
"""For one pod of the job; its activeDeadlineSeconds allows several."""
_PERIODS: Final = (20, 15, 12, 10, 6, 5, 4, 3, 2, 1)
"""In minutes: a cron schedule can only express the divisors of an hour."""
_LONGEST_NAME: Final = 52
"""Of a CronJob, because the controller appends the time to the name."""
_LABEL: Final = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_FOLDER: Final = Path(__file__).parents[2] / "manifests"


def build_refresher(
    target: Target,
    hub: Hub,
    identity_client_id: str | None,
    tenant: str,
    chain: Chain = "entra",
    *,
    cloud: AzureCloud,
    audience: str | None = None,
    adopt: bool = False,
    image: str | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield Role, RoleBinding, ConfigMap and CronJob for one target, in the order to apply them. The namespace and the
    target's first service account must exist.

    chain: the issuer that the provider at Google trusts. The credential configuration does not say, because both kinds
    read the same projected file.
        entra: the tenant, as in the guide. The projected token is exchanged at Entra for one of the managed identity
            `identity_client_id`, for the hub's entra_resource.
        kubernetes: the cluster's own issuer. The projected token is sent to Google; its audience is the hub's
            entra_resource, which the provider has to allow. No identity is needed.
    cloud: where the cluster is. audience: of the projected token in the chain `entra`; by default the cloud's.
    adopt: take over a secret of other field managers.
    image: one with Python 3.11 or newer, best mirrored and pinned by digest. Default: the manifest's.

    Raises InvalidRequest for the chain `entra` without an identity.
    """
    if chain == "entra" and identity_client_id is None:
        raise InvalidRequest("the token chain entra needs a managed identity: name one, or choose the chain kubernetes")
    role, binding, config, job = name_objects(target)
    name = role["metadata"]["name"]
    role["rules"][0]["resourceNames"] = [target.secret]
    binding["roleRef"]["name"] = name
    account = target.account_names[0]
    binding["subjects"][0] |= {"name": account, "namespace": target.namespace}
    resource = hub.entra_resource or cloud.exchange
    entra = {
        "url": f"{cloud.authority.rstrip('/')}/{tenant}/oauth2/v2.0/token",
        "clientId": identity_client_id,
        "scope": f"{resource}/.default",
    }
    config["data"] = {
        "refresh.py": _read_script(),
        "settings.json": json.dumps(
            _settings(target, hub) | {"entra": entra if chain == "entra" else None, "adopt": adopt}, indent=2
        ),
    }
    job["spec"]["schedule"] = schedule(hub.life)
    pod = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    pod["serviceAccountName"] = account
    if image:
        pod["containers"][0]["image"] = image
    script, _, _, subject_token = pod["volumes"][0]["projected"]["sources"]
    script["configMap"]["name"] = name
    subject_token["serviceAccountToken"]["audience"] = resource if chain == "kubernetes" else audience or cloud.exchange
    yield from (role, binding, config, job)


def name_objects(target: Target) -> list[dict[str, Any]]:
    """Return the same four with the target's names and the manifests' content, which is enough to find them."""
    name = _name(target.secret)
    manifests = copy.deepcopy(_parse())
    for manifest in manifests:
        manifest["metadata"] |= {"name": name, "namespace": target.namespace}
    return manifests


@cache
def _parse() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((_FOLDER / "in-cluster-refresher.yaml").read_text(encoding="utf-8")))


@cache
def _read_script() -> str:
    return (_FOLDER / "in-cluster" / "refresh.py").read_text(encoding="utf-8")


def schedule(life: timedelta) -> str:
    """Return the cron schedule for tokens of this life: every 20 minutes, or every third of a shorter life."""
    third = life / 3
    period = next((minutes for minutes in _PERIODS if timedelta(minutes=minutes) <= third), _PERIODS[-1])
    return f"*/{period} * * * *"


def _settings(target: Target, hub: Hub) -> dict[str, Any]:
    config = hub.credential_config
    image = hub.probe_image
    return {
        "namespace": target.namespace,
        "secret": target.secret,
        "registries": list(hub.registries),
        "probe": {"tokenUrl": image.token_url, "manifestUrl": image.manifest_url, "accept": MANIFEST_TYPES},
        "google": {
            "audience": config.audience,
            "subjectTokenType": config.subject_token_type,
            "tokenUrl": config.token_url,
            "impersonationUrl": config.service_account_impersonation_url,
            "scope": hub.scope,
            "lifetime": int(hub.life.total_seconds()),
        },
        "deadlineSeconds": int(_DEADLINE.total_seconds()),
    }


def _name(secret: str) -> str:
    """Return the name of the four objects: a DNS label, because pods and their host names are derived from it."""
    name = f"refresh-{secret}"
    if len(name) <= _LONGEST_NAME and _LABEL.fullmatch(name):
        return name
    digest = hashlib.sha256(secret.encode()).hexdigest()[:8]
    return f"{name.replace('.', '-')[: _LONGEST_NAME - len(digest) - 1]}-{digest}"
