"""The in-cluster refresher: a CronJob that keeps one pull secret fresh without anybody from outside.

For owners who allow no standing access, and for clusters that the app cannot reach. What it writes is what the central
refresher writes, under the same field manager and with the same annotations, so either can follow the other.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Literal

import yaml

from pullkeeper.errors import InvalidRequest
from pullkeeper.model import Hub, Target

Chain = Literal["entra", "kubernetes"]

_DEADLINE: Final = timedelta(seconds=120)
"""For one try of the job, of which its activeDeadlineSeconds allows several."""
_PERIODS: Final = (20, 15, 12, 10, 6, 5, 4, 3, 2, 1)
"""In minutes: those that divide an hour evenly, which is all that a cron schedule can say."""
_LONGEST_NAME: Final = 52
"""Of a CronJob: the controller appends the time to it."""
_LABEL: Final = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_FOLDER: Final = Path(__file__).parents[2] / "manifests"


def in_cluster_refresher(
    target: Target,
    hub: Hub,
    identity_client_id: str | None,
    tenant: str,
    chain: Chain = "entra",
    *,
    authority_host: str,
    adopt: bool = False,
    image: str | None = None,
) -> Iterator[dict[str, Any]]:
    """Role, role binding, ConfigMap and CronJob for one target, in the order to apply them. The namespace and the
    service account, the target's first, must be there.

    chain: whom the provider at Google trusts. A credential configuration cannot tell, because both kinds read the same
    projected file; so it is told here.
        entra: the tenant, as the guide has it. The projected token is exchanged at Entra for one of the managed
            identity `identity_client_id`, for the hub's entra_resource.
        kubernetes: the cluster's own issuer. The projected token goes to Google as it is, and its audience is the
            hub's entra_resource to the letter, which is then what the provider has to allow. No identity is needed.
    authority_host: Entra's address, for the chain `entra`.
    adopt: take the secret over where somebody else has written it.
    image: one with Python 3.11 or newer; the manifest's unless given. Best pinned by digest, and mirrored.

    Raises InvalidRequest: the chain `entra` without an identity.
    """
    if chain == "entra" and identity_client_id is None:
        raise InvalidRequest("the token chain entra needs a managed identity: name one, or choose the chain kubernetes")
    role, binding, config, job = by_name(target)
    name = role["metadata"]["name"]
    role["rules"][0]["resourceNames"] = [target.secret]
    binding["roleRef"]["name"] = name
    account = target.service_accounts[0]
    binding["subjects"][0] |= {"name": account, "namespace": target.namespace}
    entra = {
        "url": f"{authority_host.rstrip('/')}/{tenant}/oauth2/v2.0/token",
        "clientId": identity_client_id,
        "scope": f"{hub.entra_resource}/.default",
    }
    config["data"] = {
        "refresh.py": (_FOLDER / "in-cluster" / "refresh.py").read_text(encoding="utf-8"),
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
    if chain == "kubernetes":
        subject_token["serviceAccountToken"]["audience"] = hub.entra_resource
    yield from (role, binding, config, job)


def by_name(target: Target) -> list[dict[str, Any]]:
    """The same four, of which nothing but the names is the target's own: enough to find them again."""
    name = _name(target.secret)
    # Parsed anew each time, so that values may be put into it.
    manifests = list(yaml.safe_load_all((_FOLDER / "in-cluster-refresher.yaml").read_text(encoding="utf-8")))
    for manifest in manifests:
        manifest["metadata"] |= {"name": name, "namespace": target.namespace}
    return manifests


def schedule(life: timedelta) -> str:
    """The cron schedule for tokens of this life: every 20 minutes, or every third of a shorter life."""
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
        "probe": {"host": image.host, "name": image.name},
        "google": {
            "audience": config.audience,
            "subjectTokenType": config.subject_token_type,
            "tokenUrl": config.token_url,
            "impersonationUrl": config.service_account_impersonation_url,
            "scope": hub.scope,
            "lifetime": hub.token_lifetime,
        },
        "deadlineSeconds": int(_DEADLINE.total_seconds()),
    }


def _name(secret: str) -> str:
    """Of everything that refreshes this secret: a DNS label, since pods and their hosts are named after it."""
    name = f"refresh-{secret}"
    if len(name) <= _LONGEST_NAME and _LABEL.fullmatch(name):
        return name
    digest = hashlib.sha256(secret.encode()).hexdigest()[:8]
    return f"{name.replace('.', '-')[: _LONGEST_NAME - len(digest) - 1]}-{digest}"
