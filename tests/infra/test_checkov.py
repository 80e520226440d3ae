"""checkov, a linter for infrastructure, judges the compiled template with its parameters filled in.

Not the template itself: checkov finds no resource in one of language version 2.0, and says that all is well. So the
number of resources that it has read is tested, too.
"""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tests.docs import azure_cli
from tests.infra import rules
from tests.infra.compiler import SETS, Resource, read_resources

ACCEPTED: Final = {
    "CKV_AZURE_13": "sign-in is optional (signIn); without it every route needs a function key",
    "CKV_AZURE_17": "callers are scripts with a key or an Entra token; no route takes client certificates",
    "CKV_AZURE_35": "without a private network, the account is reached by its address, with Entra tokens alone",
    "CKV_AZURE_36": "no service of Azure needs a way past the firewall of the account",
    "CKV_AZURE_59": "as CKV_AZURE_35",
    "CKV_AZURE_63": "of settings for web apps: Flex Consumption has no such log, and the app emits events",
    "CKV_AZURE_65": "as CKV_AZURE_63",
    "CKV_AZURE_66": "as CKV_AZURE_63",
    "CKV_AZURE_80": "of .NET Framework",
    "CKV_AZURE_88": "Flex Consumption mounts no Azure Files",
    "CKV_AZURE_206": "optional (zoneRedundant); docs/architecture.md says what is lost with each table",
    "CKV_AZURE_212": "the platform decides; nothing is lost while there is no instance",
    "CKV_AZURE_213": "Flex Consumption has no health check of the platform",
    "CKV_AZURE_222": "operators and pipelines call the routes, with key or token",
    "CKV_AZURE_225": "optional (zoneRedundant); a zone that is out is an outage of minutes, which the fleet survives",
}


def judge(deployments: Mapping[str, list[Resource]], folder: Path) -> dict[str, Any]:
    """Return checkov's report on deployments, each as a template without expressions."""
    for name, resources in deployments.items():
        template = {
            "$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#",
            "contentVersion": "1.0.0.0",
            "resources": resources,
        }
        (folder / f"{name}.json").write_text(json.dumps(template), encoding="utf-8")
    arguments = ["--directory", str(folder), "--framework", "arm", "--output", "json", "--quiet", "--compact"]
    done = subprocess.run(
        [str(azure_cli.program("checkov")), *arguments, "--skip-download"],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
        env=azure_cli.environment(folder) | {"LOG_LEVEL": "ERROR"},
    )
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def test_checkov_finds_nothing_but_what_is_accepted_and_a_defect(tmp_path: Path) -> None:
    """In one run, because it takes seconds to start."""
    deployments = {parameters.stem: read_resources(parameters) for parameters in SETS}
    (account,) = rules.of_type(deployments[SETS[0].stem], rules.STORAGE)
    weak = account | {"properties": account["properties"] | {"minimumTlsVersion": "TLS1_0"}}
    report = judge({**deployments, "weak": [weak]}, tmp_path)
    count = sum(map(len, deployments.values())) + 1
    assert (report["summary"]["parsing_errors"], report["summary"]["resource_count"]) == (0, count)
    of_weak = {check["check_id"] for check in report["results"]["failed_checks"] if check["file_path"] == "/weak.json"}
    assert "CKV_AZURE_44" in of_weak
    others = [check for check in report["results"]["failed_checks"] if check["file_path"] != "/weak.json"]
    failed = {check["check_id"]: check["check_name"] for check in others}
    assert {name: title for name, title in failed.items() if name not in ACCEPTED} == {}
    assert ACCEPTED.keys() - failed == set()
