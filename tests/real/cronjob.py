"""The CronJob that Pullkeeper takes over from, with the rights and files that it has in its pod."""

import json
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from local.azure.entra import EXCHANGE
from pullkeeper.model import Target
from tests.contract.conversation import Answer, Caller, Json, until
from tests.real.kubectl import Kubectl, Ran, run
from tests.world import World

_SCRIPT = (Path(__file__).parent / "cronjob.sh").read_text()
_ROLE = [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "create", "delete"]}]
_RBAC = "rbac.authorization.k8s.io"


@dataclass(frozen=True, slots=True)
class CronJob:
    """One run of it is one pod: what gcloud keeps in its folder is gone with it.

    The subject token is one of the tenant's, which is whom the publisher trusts. The pod's own projected token, which
    the guide has it use, is none.
    """

    world: World
    kubectl: Kubectl
    target: Target
    folder: Path
    _runs: "count[int]"

    async def run(self, *, as_printed: bool = False) -> Ran:
        pod = self.folder / f"pod-{next(self._runs)}"
        pod.mkdir(parents=True)
        cloud, hub = self.world.cloud, self.world.cloud.hubs["main"].document
        subject, config = pod / "azure-identity-token", pod / "credential-config.json"
        subject.write_text(cloud.entra.token(cloud.app, EXCHANGE))
        config.write_text(json.dumps({**hub["credentialConfig"], "credential_source": {"file": str(subject)}}))
        environment = {
            **self.kubectl.environment,
            "CREDENTIAL_CONFIG": str(config),
            "NAMESPACE": self.target.namespace,
            "REGISTRY": hub["registries"][0],
            "CLOUDSDK_CONFIG": str(pod / "gcloud"),
            "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE": str(cloud.trust_file),
            "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "1",
            "CLOUDSDK_CORE_CHECK_GCE_METADATA": "0",
        }
        if not as_printed:
            environment["CLOUDSDK_AUTH_CREDENTIAL_FILE_OVERRIDE"] = str(config)
        return await run("/bin/bash", "-c", _SCRIPT, environment=environment)


async def service_account(admin: Caller, namespace: str, name: str) -> str:
    """A token of the service account that the guide makes, with the guide's role. The namespace is made, too."""
    here = f"/api/v1/namespaces/{namespace}"
    rbac = f"/apis/{_RBAC}/v1/namespaces/{namespace}"
    subject = {"kind": "ServiceAccount", "name": name, "namespace": namespace}
    manager: Json = {"metadata": {"name": "secret-manager"}}
    reference = {"kind": "Role", "name": "secret-manager", "apiGroup": _RBAC}
    made = [
        await admin.post("/api/v1/namespaces", {"metadata": {"name": namespace}}),
        await admin.post(f"{here}/serviceaccounts", {"metadata": {"name": name}}),
        await admin.post(f"{rbac}/roles", {**manager, "rules": _ROLE}),
        await admin.post(f"{rbac}/rolebindings", {**manager, "subjects": [subject], "roleRef": reference}),
    ]
    assert [201] * len(made) == [answer.status for answer in made]
    user = f"system:serviceaccount:{namespace}:{name}"
    place = {"namespace": namespace, "resource": "secrets", "verb": "delete"}

    def allowed(answer: Answer) -> bool:
        return answer.body["status"]["allowed"] is True

    review = {"spec": {"user": user, "resourceAttributes": place}}
    await until(lambda: admin.post("/apis/authorization.k8s.io/v1/subjectaccessreviews", review), allowed)
    token = await admin.post(f"{here}/serviceaccounts/{name}/token", {"spec": {"expirationSeconds": 3600}})
    return str(token.body["status"]["token"])
