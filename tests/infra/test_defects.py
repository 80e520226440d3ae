"""Every rule finds its defect. All are put into one copy of infra/, which the real compiler turns into resources."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.infra import rules
from tests.infra.compiler import INFRA, PARAMETERS, Resource, predict
from tests.infra.rules import RULES, Rule


@dataclass(frozen=True, slots=True)
class Defect:
    """finding: what the rule says of it."""

    rule: Rule
    file: str
    right: str
    wrong: str
    finding: str


DEFECTS: Final = (
    Defect(
        rules.find_keys, "storage", "allowSharedKeyAccess: false", "allowSharedKeyAccess: true", "allowSharedKeyAccess"
    ),
    Defect(
        rules.find_keys, "telemetry", "DisableLocalAuth: true", "DisableLocalAuth: false", "pullkeeper: DisableLocal"
    ),
    Defect(rules.find_keys, "telemetry", "disableLocalAuth: true,", "", "features__disableLocalAuth"),
    Defect(rules.find_public_blobs, "storage", "allowBlobPublicAccess: false", "allowBlobPublicAccess: true", "Public"),
    Defect(rules.find_public_blobs, "storage", "publicAccess: 'None'", "publicAccess: 'Blob'", "ackages: publicAccess"),
    Defect(rules.find_weak_transport, "storage", "'TLS1_2'", "'TLS1_0'", "TLS1_0"),
    Defect(
        rules.find_weak_transport, "app", "  minTlsVersion: '1.2'", "  minTlsVersion: '1.0'", "minTlsVersion is 1.0"
    ),
    Defect(rules.find_weak_transport, "app", "httpsOnly: true", "httpsOnly: false", "httpsOnly is False"),
    Defect(rules.find_weak_transport, "app", "ftpsState: 'Disabled'", "ftpsState: 'AllAllowed'", "ftpsState"),
    Defect(
        rules.find_weak_transport,
        "app",
        "name: 'scm'\n    properties: { allow: false }",
        "name: 'scm'\n    properties: { allow: true }",
        "/scm: basic publishing",
    ),
    Defect(rules.find_wildcards, "roles", "managedClusters/write'", "*'", "Microsoft.ContainerService/*"),
    Defect(
        rules.find_secrets,
        "storage",
        "tags: tags\n  kind",
        "tags: union(tags, { key: 'EndpointSuffix=core.windows.net;AccountKey=AAAA' })\n  kind",
        "AccountKey=",
    ),
    Defect(rules.find_wrong_names, "resources", "'pk${suffix}'", "'pk-${suffix}'", "storageAccounts: pk-"),
    Defect(rules.find_wrong_names, "storage", "var packages = 'packages'", "var packages = 'Packages'", "Packages"),
    Defect(
        rules.find_unpredictable,
        "telemetry",
        "guid(insights.id, identityId",
        "guid(insights.id, identityId, principalId",
        "[",
    ),
    Defect(
        rules.find_unexplained,
        "storage",
        "'0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3'",
        "'8e3af657-a8ff-443c-a75c-2fe8c4bcb635'",
        "refreshes: 8e3af657-a8ff-443c-a75c-2fe8c4bcb635 at Microsoft.Storage/storageAccounts",
    ),
    Defect(
        rules.find_wrong_settings, "resources", "['blob', 'queue', 'table']", "['queue', 'table']", "blobServiceUri"
    ),
    Defect(rules.find_wrong_settings, "resources", "REFRESH_SCHEDULE:", "REFRESH_SHEDULE:", "REFRESH_SHEDULE"),
    Defect(
        rules.find_wrong_settings,
        "resources",
        "'none'\n      }",
        "'none'\n        UNHEARD_OF: 'x'\n      }",
        "UNHEARD_OF",
    ),
    Defect(
        rules.find_missing_storage,
        "storage",
        "'onboarding-poison'",
        "'onboarding-poisoned'",
        "queues/onboarding-poison",
    ),
    Defect(rules.find_missing_storage, "storage", "'shards', ", "", "tables/shards"),
)


@pytest.fixture(scope="module")
def defective(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Resource]]:
    root = tmp_path_factory.mktemp("defects")
    for folder in (INFRA, PARAMETERS):
        shutil.copytree(folder, root / folder.relative_to(INFRA.parent))
    version = Path("pullkeeper") / "version.py"
    (root / "pullkeeper").mkdir()
    shutil.copy(INFRA.parent / version, root / version)
    for defect in DEFECTS:
        source = root / "infra" / f"{defect.file}.bicep"
        text = source.read_text(encoding="utf-8")
        assert text.count(defect.right) == 1, defect
        source.write_text(text.replace(defect.right, defect.wrong), encoding="utf-8")
    yield predict(root / PARAMETERS.relative_to(INFRA.parent) / "many-clusters.bicepparam")["predictedResources"]
    shutil.rmtree(root)


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda one: f"{one.rule.__name__}-{one.finding}")
def test_a_rule_finds_its_defect(defect: Defect, defective: list[Resource]) -> None:
    found = defect.rule(defective)
    assert [one for one in found if defect.finding in one], found


def test_every_rule_has_a_defect() -> None:
    assert {defect.rule for defect in DEFECTS} == set(RULES)


def test_a_secret_in_an_output_is_found() -> None:
    outputs = {
        "plain": {"type": "string", "value": "[reference('app').outputs.url.value]"},
        "key": {"type": "string", "value": "[listKeys('account', '2024-01-01').keys[0].value]"},
        "hidden": {"type": "securestring", "value": "[reference('app').outputs.key.value]"},
    }
    assert rules.find_secret_outputs({"outputs": outputs}) == ["key", "hidden"]
