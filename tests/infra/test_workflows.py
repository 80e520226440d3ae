"""The workflows that deploy: linted, pinned, and the privileged part runs no test."""

import re
from pathlib import Path

import pytest
import yaml

from tests.docs.pages import read
from tests.docs.pipelines import find_scripts
from tests.docs.test_pipelines import lint
from tests.infra.test_azd import AZURE, GITHUB

BOTH = pytest.mark.parametrize("pipeline", [GITHUB, AZURE], ids=["github", "azure"])


@BOTH
def test_linters_find_nothing(pipeline: Path, tmp_path: Path) -> None:
    assert lint(pipeline, tmp_path) == ""


@BOTH
def test_it_tests_builds_deploys_and_verifies(pipeline: Path) -> None:
    steps = "\n".join(find_scripts(yaml.safe_load(read(pipeline))))
    places = [steps.find(text) for text in ("make check", "make test", "make package", "infra/deploy.sh")]
    assert -1 not in places
    assert places == sorted(places)


def test_actions_are_pinned_by_commit() -> None:
    used = re.findall(r"uses: (.+)", read(GITHUB))
    assert used
    assert [one for one in used if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v[\d.]+", one)] == []


def test_only_the_job_that_deploys_gets_an_identity() -> None:
    """The tests run many packages; what they do must not be done as the identity that deploys."""
    workflow = yaml.safe_load(read(GITHUB))
    assert workflow["permissions"] == {"contents": "read"}
    privileged = {name for name, job in workflow["jobs"].items() if "id-token" in job.get("permissions", {})}
    assert privileged == {"deploy"}
    assert "make test" not in "\n".join(find_scripts(workflow["jobs"]["deploy"]))
