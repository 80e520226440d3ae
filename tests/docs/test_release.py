"""A release: what it consists of, the workflow that makes it, and the updates of what is pinned."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from local.release import ReleaseError, prepare
from pullkeeper.version import VERSION
from tests.docs import azure_cli
from tests.docs.pages import ROOT, read
from tests.docs.pipelines import EXAMPLES, find_scripts
from tests.docs.test_pipelines import lint, run_linter
from tests.docs.test_structure import find_files

GITHUB = ROOT / ".github"
WORKFLOW = GITHUB / "workflows" / "release.yml"
NOTES = f"## [Unreleased]\n\n## [{VERSION}] - 2026-12-01\n\n### Added\n\n- A thing.\n\n## [0.0.9] - 2026-01-01"


@pytest.mark.parametrize(
    ("tag", "changelog", "fault"),
    [
        ("v9.9.9", NOTES, "version.py"),
        (VERSION, NOTES, "version.py"),
        (f"v{VERSION}", "## [Unreleased]\n\nWhat will be it.\n", "CHANGELOG.md"),
    ],
)
def test_a_release_that_is_not_ready_is_refused(tag: str, changelog: str, fault: str, tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match=fault):
        prepare(tag, changelog, tmp_path / "release")
    assert list(tmp_path.iterdir()) == []


def test_the_version_is_written_in_one_place() -> None:
    """The package of the command line takes it from there."""
    asked = [sys.executable, "-m", "hatchling", "version"]
    assert subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip() == VERSION


def test_linters_find_nothing_in_the_workflow(tmp_path: Path) -> None:
    assert lint(WORKFLOW, tmp_path) == ""


def audit_workflows(folder: Path) -> str:
    """Return what makes a workflow unsafe: actions by tag, injected text, kept credentials, too many rights."""
    return run_linter(azure_cli.program("zizmor"), "--offline", "--no-progress", "--quiet", folder)


@pytest.mark.parametrize("folder", [GITHUB, EXAMPLES / "github-actions.yml"], ids=lambda path: path.name)
def test_zizmor_finds_nothing(folder: Path) -> None:
    assert audit_workflows(folder) == ""


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("attest-build-provenance@a2bbfa25375fe432b6a289bc6b6cd05ecd0c4c32", "attest-build-provenance@v4"),
        ("persist-credentials: false", "fetch-depth: 1"),
        ("permissions:\n  contents: read", "permissions: write-all"),
        ('create "$GITHUB_REF_NAME"', 'create "${{ github.ref_name }}"'),
    ],
)
def test_zizmor_finds_a_mistake(right: str, wrong: str, tmp_path: Path) -> None:
    copy = tmp_path / ".github" / "workflows" / "release.yml"
    copy.parent.mkdir(parents=True)
    text = read(WORKFLOW)
    assert right in text
    copy.write_text(text.replace(right, wrong, 1), encoding="utf-8")
    assert audit_workflows(tmp_path) != ""


def test_what_signs_a_release_runs_no_code_of_the_project() -> None:
    jobs = yaml.safe_load(read(WORKFLOW))["jobs"]
    assert {name for name, job in jobs.items() if "permissions" in job} == {"publish"}
    assert re.findall(r"make|bash|python|checkout", "\n".join(find_scripts(jobs["publish"]))) == []
    assert not any("checkout" in step.get("uses", "") for step in jobs["publish"]["steps"])


def test_the_audit_reads_every_pin_of_the_lock() -> None:
    """Without asking the service that knows the vulnerabilities."""
    [command] = re.findall(r"\.venv-judges/bin/pip-audit (.+)", "\n".join(find_scripts(yaml.safe_load(read(WORKFLOW)))))
    audit = [str(azure_cli.program("pip-audit")), *shlex.split(command), "--dry-run"]
    done = subprocess.run(audit, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    lock = read(ROOT / "requirements.txt").replace("\\\n", "").splitlines()
    pins = [Requirement(line.partition("--hash")[0]) for line in lock if "==" in line]
    needed = [pin for pin in pins if pin.marker is None or pin.marker.evaluate()]
    assert f"would have audited {len(needed)} packages" in done.stderr


def test_every_lock_is_updated() -> None:
    schema = ["--builtin-schema", "vendor.dependabot"]
    assert run_linter(azure_cli.program("check-jsonschema"), *schema, GITHUB / "dependabot.yml") == ""
    updates = yaml.safe_load(read(GITHUB / "dependabot.yml"))["updates"]
    updated = {
        one["package-ecosystem"]: {ROOT / folder.lstrip("/") for folder in one["directories"]} for one in updates
    }
    for ecosystem, lock in {"npm": "package-lock.json", "uv": "requirements.txt"}.items():
        assert updated[ecosystem] == {file.parent for file in find_files() if file.name == lock}
    # The others pin the releases of Kubernetes that the tests run on.
    assert updated["gomod"] == {azure_cli.JUDGES}
