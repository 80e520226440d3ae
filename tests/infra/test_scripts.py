"""The scripts that deploy, verify and clean up: with the real Azure CLI against the local cloud where that plays the
calls, else with a recorder in place of az, whose commands the CLI checks.
"""

import json
import os
import re
import shutil
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from aiohttp import web

from local.azure.function_apps import SITES, FunctionApp
from local.serving import Authority
from tests.apiserver import at_hand
from tests.docs import azure_cli
from tests.docs.az_commands import parse_record
from tests.docs.pipelines import Run, run_program
from tests.docs.test_pipelines import APP_ID, open_agent, serve
from tests.faults.triggers import FUNCTIONS
from tests.infra.compiler import INFRA, SUBSCRIPTION
from tests.world import World

OUTPUTS: Final = {
    "azurE_RESOURCE_GROUP": {"type": "String", "value": "rg-prod"},
    "pullkeepeR_APP_ID": {"type": "String", "value": APP_ID},
    "pullkeepeR_URL": {"type": "String", "value": "https://pullkeeper.example"},
}
ENVIRONMENT: Final = {
    "AZURE_SUBSCRIPTION_ID": azure_cli.SUBSCRIPTION,
    "AZURE_LOCATION": "westeurope",
    "AZURE_ENV_NAME": "prod",
    "AZURE_RESOURCE_GROUP": "rg-prod",
    "PULLKEEPER_APP_ID": APP_ID,
    "PULLKEEPER_URL": "https://pullkeeper.example",
    "PULLKEEPER_OBJECT_ID": "00000000-0000-0000-0000-000000000001",
    "PULLKEEPER_ONBOARDING_OBJECT_ID": "00000000-0000-0000-0000-000000000002",
    "PULLKEEPER_CLUSTER_SCOPES": json.dumps([f"/subscriptions/{azure_cli.SUBSCRIPTION}/resourceGroups/shop"]),
}
_AZ: Final = """#!/usr/bin/env bash
RECORD={record} {recorder} "$@" >/dev/null
env >{record}-environment
[[ ${{FAILS-}} && $* == *"$FAILS"* ]] && exit 1
case "$*" in
*properties.outputs*) echo '{outputs}' ;;
*'role assignment list'*) echo /subscriptions/{subscription}/providers/Microsoft.Authorization/roleAssignments/one ;;
*'role definition list'*) echo 00000000-0000-0000-0000-000000000003 ;;
*) echo key ;;
esac
"""
_CURL: Final = """#!/usr/bin/env bash
echo "$*" >{folder}/arguments
for one; do case $one in @*) cat "${{one#@}}" >{folder}/header ;; esac; done
printf '%s' '{text}'
"""


@dataclass(frozen=True, slots=True)
class Desk:
    """A folder with the recorder as az, and a curl that responds with a file."""

    folder: Path

    async def run(self, script: str, *arguments: str, **environment: str) -> tuple[Run, list[tuple[str, ...]]]:
        """Return how the script ended, and the az commands that it ran."""
        own = {"PATH": f"{self.folder}:{os.environ['PATH']}", "PYTHON": sys.executable, "PULLKEEPER_PATIENCE": "0"}
        record = self.folder / "record"
        record.write_bytes(b"")
        run = await run_program([str(INFRA / script), *arguments], {**ENVIRONMENT, **own, **environment}, self.folder)
        return run, list(parse_record(record.read_bytes()))

    def variables(self) -> set[str]:
        """Return the names of the variables that the last az had."""
        lines = (self.folder / "record-environment").read_text(encoding="utf-8").splitlines()
        return {line.partition("=")[0] for line in lines}

    def respond(self, text: str) -> None:
        """Let curl print this, and keep its arguments and the header that it reads from a file."""
        script = _CURL.format(folder=self.folder, text=text)
        (self.folder / "curl").write_text(script, encoding="utf-8")
        (self.folder / "curl").chmod(0o755)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    at_hand.program("jq")
    text = _AZ.format(
        record=tmp_path / "record",
        recorder=azure_cli.JUDGES / "recorder",
        outputs=json.dumps(OUTPUTS),
        subscription=azure_cli.SUBSCRIPTION,
    )
    (tmp_path / "az").write_text(text, encoding="utf-8")
    (tmp_path / "az").chmod(0o755)
    (tmp_path / "package.zip").write_bytes(b"PK")
    return Desk(tmp_path)


def check(commands: list[tuple[str, ...]], folder: Path) -> list[str]:
    """Return what the Azure CLI refuses. Files are named from the root of the repository."""
    shutil.copytree(INFRA, folder / "infra")
    return [
        f"{command}: {fault}"
        for command, fault in zip(commands, azure_cli.check(commands, folder), strict=True)
        if fault
    ]


async def test_the_script_deploys_resources_roles_and_code(desk: Desk) -> None:
    run, commands = await desk.run(
        "deploy.sh", "package.zip", PULLKEEPER_HUBS="", PULLKEEPER_SCALE="$(PULLKEEPER_SCALE)"
    )
    assert [command[:3] for command in commands[:3]] == [
        ("deployment", "sub", "create"),
        ("deployment", "sub", "create"),
        ("functionapp", "deployment", "source"),
    ]
    assert ["infra/main.bicepparam" in commands[0], "infra/access.bicepparam" in commands[1]] == [True, True]
    assert {"rg-prod", "pullkeeper", str(desk.folder / "package.zip")} < set(commands[2])
    assert commands[2][commands[2].index("--build-remote") + 1] == "false"
    # Variables that the pipeline does not have are not those of the deployment.
    assert not {"PULLKEEPER_HUBS", "PULLKEEPER_SCALE"} & desk.variables()
    assert check(commands, desk.folder) == []
    # The recorder's platform has other functions, so it ends there.
    assert (run.code, "The functions differ" in run.err) == (1, True), run


async def test_without_clusters_there_are_no_roles(desk: Desk) -> None:
    for scopes in ("", "[]"):
        run, commands = await desk.run("hooks/postprovision.sh", PULLKEEPER_CLUSTER_SCOPES=scopes)
        assert (run.code, commands) == (0, [])


async def test_the_last_hook_prints_what_to_do_next(desk: Desk) -> None:
    run, commands = await desk.run("hooks/postdeploy.sh")
    assert (run.code, commands) == (0, [])
    assert "export PULLKEEPER_URL=https://pullkeeper.example\n" in run.out
    assert "pullkeeper check" in run.out
    assert "pullkeeper handover" in run.out
    (line,) = re.findall(r"\$\(az (.+)\)$", run.out, re.MULTILINE)
    assert check([tuple(line.replace('"', "").split())], desk.folder) == []


async def test_nothing_is_removed_while_clusters_are_onboarded(desk: Desk) -> None:
    for status in ('{"totals": {"clusters": 3}}', "no JSON"):
        desk.respond(status)
        run, commands = await desk.run("hooks/predown.sh")
        assert run.code != 0
        assert [command for command in commands if "delete" in command] == []
        assert "PULLKEEPER_LEAVE=yes" in run.err
        # Other users of the machine see arguments, and the key is none.
        assert ": key" not in (desk.folder / "arguments").read_text()
        assert (desk.folder / "header").read_text() == "x-functions-key: key\n"


@pytest.mark.parametrize(
    ("script", "fails", "after"), [("deploy.sh", "access", "source"), ("hooks/predown.sh", "assignment list", "delete")]
)
async def test_a_script_ends_with_what_fails(desk: Desk, script: str, fails: str, after: str) -> None:
    run, commands = await desk.run(script, "package.zip", FAILS=fails, PULLKEEPER_LEAVE="yes")
    assert run.code != 0
    assert commands
    assert [command for command in commands if after in command] == []


def test_no_call_of_curl_waits_forever() -> None:
    texts = [path.read_text(encoding="utf-8") for path in (*INFRA.glob("*.sh"), *INFRA.glob("hooks/*.sh"))]
    calls = [call for text in texts for call in re.findall(r"\bcurl --.+", text)]
    assert calls
    assert [call for call in calls if "--max-time " not in call] == []


@pytest.mark.parametrize("environment", [{}, {"PULLKEEPER_LEAVE": "yes", "PULLKEEPER_NAME": "shop"}])
async def test_roles_are_removed_in_every_subscription(desk: Desk, environment: Mapping[str, str]) -> None:
    """That of the app is one of them, whether there are clusters in it or not."""
    desk.respond("down" if environment else '{"totals": {"clusters": 0}}')
    in_own = [] if environment else [f"/subscriptions/{azure_cli.SUBSCRIPTION}/resourceGroups/a"]
    scopes = json.dumps([f"/subscriptions/{SUBSCRIPTION}", *in_own])
    run, commands = await desk.run("hooks/predown.sh", PULLKEEPER_CLUSTER_SCOPES=scopes, **environment)
    assert run.code == 0, run
    deleted = [command for command in commands if command[2:3] == ("delete",)]
    assert [command[1] for command in deleted] == ["assignment"] * 4 + ["definition"]
    queries = {command[command.index("--query") + 1] for command in commands if command[2:3] == ("list",)}
    principals = (ENVIRONMENT["PULLKEEPER_OBJECT_ID"], ENVIRONMENT["PULLKEEPER_ONBOARDING_OBJECT_ID"])
    assert queries == {
        *(f"[?principalId=='{principal}'].id" for principal in principals),
        f"[?ends_with(roleName, '({environment.get('PULLKEEPER_NAME', 'pullkeeper')} in rg-prod)')].name",
    }
    assert {"--all" in command for command in commands if command[:3] == ("role", "assignment", "list")} == {True}, (
        "those at clusters too"
    )
    own = [command for command in commands if SUBSCRIPTION not in command]
    assert len(own) < len(commands)
    assert check(own, desk.folder) == []


async def test_a_deployment_is_verified(world: World, authority: Authority, tmp_path: Path) -> None:
    """With the real az, signed in once: it takes seconds. The app has minutes until it must be well, if no one says
    otherwise.
    """
    application, health, names = web.Application(), iter((503, 200, 503)), [*map(str, FUNCTIONS)]

    async def respond(_: web.Request) -> Any:
        return web.Response(status=next(health))

    application.router.add_get("/api/health", respond)
    async with AsyncExitStack() as opened:
        url = await serve(opened, application, authority)
        actions = frozenset({f"{SITES}/read", f"{SITES}/functions/read"})
        agent = await opened.enter_async_context(open_agent(world, actions, tmp_path))
        (tmp_path / "sleep").write_text("#!/bin/sh\n", encoding="utf-8")
        (tmp_path / "sleep").chmod(0o755)
        path = f"{tmp_path}:{agent.environment['PATH']}"
        environment = {**agent.environment, "PATH": path, "PYTHON": sys.executable}

        async def verify(*functions: str) -> Run:
            world.cloud.arm.function_apps.add(FunctionApp(APP_ID, url.removeprefix("https://"), "key", functions))
            return await run_program([str(INFRA / "verify.sh"), APP_ID], environment, tmp_path)

        run = await verify(*names)
        assert (run.code, "/api/health: 200" in run.out) == (0, True), run
        environment["PULLKEEPER_PATIENCE"] = "0"
        run = await verify(*names)
        assert (run.code, "/api/health: 503" in run.err) == (1, True), run
        # An app that cannot be imported has none.
        run = await verify("forgotten")
        assert run.code == 1, run
        assert {*names, "\tforgotten"} < {*run.err.splitlines()}
