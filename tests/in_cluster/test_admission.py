"""A real API server accepts the manifests without a warning, in a namespace with restricted pod security."""

import pytest
import yaml

from tests.in_cluster.conftest import Place

pytestmark = pytest.mark.real

# The guide's job, as far as pod security checks it.
GUIDE = """
apiVersion: batch/v1
kind: CronJob
metadata: {name: refresh-ar-secret}
spec:
  schedule: "*/30 * * * *"
  jobTemplate:
    spec:
      template:
        spec:
          serviceAccountName: deepintshield-sa
          restartPolicy: OnFailure
          containers:
            - name: token-refresh
              image: google/cloud-sdk:slim
              command: ["/bin/bash", "-c"]
"""


@pytest.mark.parametrize("chain", ["entra", "kubernetes"])
async def test_the_manifests_are_accepted_without_a_warning(place: Place, chain: str) -> None:
    answers = await place.onboard("entra" if chain == "entra" else "kubernetes")

    assert [answer.status for answer in answers] == [201] * 4
    assert [answer.headers.get("warning") for answer in answers] == [None] * 4


async def test_applying_again_changes_nothing(place: Place) -> None:
    first = [answer.version for answer in await place.onboard()]
    second = [answer.version for answer in await place.onboard()]

    assert first == second


async def test_the_guides_job_gets_a_warning(place: Place) -> None:
    job = yaml.safe_load(GUIDE)
    job["metadata"]["namespace"] = place.namespace
    answer = await place.apply(job)

    assert 'would violate PodSecurity \\"restricted:latest\\"' in answer.headers["warning"]


async def test_a_pod_of_the_job_is_admitted(place: Place) -> None:
    await place.onboard()
    template = place.job["spec"]["jobTemplate"]["spec"]["template"]
    pod = {"metadata": {"name": "run", "labels": template["metadata"]["labels"]}, "spec": template["spec"]}
    answer = await place.admin.post(f"/api/v1/namespaces/{place.namespace}/pods", pod, fieldValidation="Strict")

    assert answer.status == 201, answer.text
    assert "warning" not in answer.headers
