"""The pipeline examples: linted, and their step run as the agent runs it, with the real Azure CLI."""

import json
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
import yaml
from aiohttp import web

from local.azure.entra import Identity, IdentityEndpoint
from local.azure.function_apps import SITES, FunctionApp
from local.cloud import GROUP, SUBSCRIPTION
from local.function_host import HostProcess
from local.serving import Authority, Server
from pullkeeper.model import ClusterId
from tests.apiserver import at_hand
from tests.docs import azure_cli
from tests.docs.pages import ROOT, read
from tests.docs.pipelines import (
    EXAMPLES,
    PIPELINES,
    SCRIPTS,
    AgentLog,
    Run,
    Step,
    find_scripts,
    role_actions,
    run_program,
)
from tests.world import World

APP_ID: Final = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers/{SITES}/pullkeeper"
LIST_KEYS: Final = f"{SITES}/host/listKeys/action"
KEY: Final = "key-of-an-app-without-calls"
PROGRAMS: Final = [
    *SCRIPTS,
    *sorted(ROOT.glob("infra/**/*.sh")),
    ROOT / ".ci" / "run",
    ROOT / ".ci" / "python",
    azure_cli.JUDGES / "recorder",
]
_KEPT: Final = {"Content-Type", "Location", "Retry-After"}
each_pipeline = pytest.mark.parametrize("pipeline", PIPELINES, ids=lambda path: path.name)


@each_pipeline
def test_a_pipeline_runs_the_scripts(pipeline: Path) -> None:
    (commands,) = find_scripts(yaml.safe_load(read(pipeline)))
    assert commands == Step.parse(pipeline).text
    names = {script.name for script in SCRIPTS}
    assert set(re.findall(r"bash (\S+\.sh) ", commands)) == names - {"api.sh"}
    assert {*re.findall(r"\S+\.sh", read(pipeline))} == names
    used = set(re.findall(r"PULLKEEPER_[A-Z]+", commands))
    known = {name for script in SCRIPTS for name in re.findall(r"PULLKEEPER_[A-Z]+", read(script))}
    assert {"PULLKEEPER_URL", "PULLKEEPER_KEY"} <= used <= known


@pytest.mark.parametrize("script", PROGRAMS, ids=lambda path: path.name)
def test_shellcheck_finds_nothing(script: Path) -> None:
    assert run_linter(at_hand.program("shellcheck"), "--shell=bash", "--external-sources", script) == ""


@each_pipeline
def test_shellcheck_finds_nothing_in_a_step(pipeline: Path) -> None:
    text = Step.parse(pipeline).text
    assert run_linter(at_hand.program("shellcheck"), "--shell=bash", "-", stdin=text) == ""


def test_actions_are_pinned_by_commit() -> None:
    used = re.findall(r"uses: (.+)", (EXAMPLES / "github-actions.yml").read_text(encoding="utf-8"))
    assert used
    assert [one for one in used if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v[\d.]+", one)] == []


def run_linter(*arguments: str | Path, stdin: str | None = None) -> str:
    """Return its findings, "" for none."""
    done = subprocess.run(arguments, input=stdin, capture_output=True, text=True, check=False, timeout=30, cwd=ROOT)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def lint(pipeline: Path, folder: Path) -> str:
    """GitHub: actionlint, with shellcheck in the steps. Azure: Microsoft's schema, which knows the inputs of each task;
    all scalars are strings there, and its patterns are JavaScript's without the flag u.
    """
    if "vmImage:" not in read(pipeline):
        # Without the path, actionlint would skip shellcheck where it is not installed.
        shellcheck = f"-shellcheck={at_hand.program('shellcheck')}"
        return run_linter(azure_cli.program("actionlint"), "-no-color", shellcheck, pipeline)
    document = folder / "pipeline.json"
    document.write_text(json.dumps(yaml.load(read(pipeline), yaml.BaseLoader)), encoding="utf-8")
    schema = ["--builtin-schema", "vendor.azure-pipelines", "--data-transform", "azure-pipelines"]
    return run_linter(azure_cli.program("check-jsonschema"), *schema, "--regex-variant", "nonunicode", document)


@each_pipeline
def test_linters_find_nothing_in_a_pipeline(pipeline: Path, tmp_path: Path) -> None:
    assert lint(pipeline, tmp_path) == ""


@pytest.mark.parametrize(
    ("name", "wrong", "right"),
    [
        ("github-actions.yml", "runson:", "runs-on:"),
        ("github-actions.yml", "id-tokens:", "id-token:"),
        ("github-actions.yml", "onboard.sh $body", 'onboard.sh "$body"'),
        ("azure-pipelines.yml", " step:", " steps:"),
        ("azure-pipelines.yml", " AzureCLI@9", " AzureCLI@2"),
        ("azure-pipelines.yml", " scriptPlace:", " scriptLocation:"),
        ("azure-pipelines.yml", " sh", " bash"),
    ],
)
def test_linters_find_a_mistake(name: str, wrong: str, right: str, tmp_path: Path) -> None:
    text = read(EXAMPLES / name)
    assert right in text
    copy = tmp_path / name
    copy.write_text(text.replace(right, wrong, 1), encoding="utf-8")
    assert lint(copy, tmp_path) != ""


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent's machine: the real az, signed in as the pipeline's identity, and a repository with onboard.sh."""

    world: World
    identity: Identity
    repository: Path
    environment: dict[str, str]

    def body(self, name: str, cluster: ClusterId, **wanted: Any) -> str:
        """Write a body into the repository and return its path there."""
        path = self.repository / "clusters" / f"{name}.json"
        path.write_text(json.dumps({"cluster": str(cluster), **wanted}), encoding="utf-8")
        return str(path.relative_to(self.repository))

    async def run(self, pipeline: Path) -> tuple[Run, AgentLog]:
        step = Step.parse(pipeline)
        script = self.repository.parent / "step.sh"
        script.write_text(step.text, encoding="utf-8")
        environment = {
            **self.environment,
            **step.fill_environment({"PULLKEEPER_APP_ID": APP_ID, "pullkeeperAppId": APP_ID}),
        }
        run = await run_program([*step.shell, str(script)], environment, self.repository)
        return run, AgentLog.parse(step, run.out)


@asynccontextmanager
async def open_agent(world: World, actions: frozenset[str], tmp_path: Path) -> AsyncIterator[Agent]:
    """An agent whose identity has a role with these actions, on the app alone."""
    az = azure_cli.program("az")
    cloud = world.cloud
    identity = cloud.entra.add_identity("onboarding-pipeline")
    cloud.arm.function_apps.add(FunctionApp(APP_ID, "127.0.0.1:9", KEY))
    cloud.arm.assign(identity.principal_id, APP_ID, actions)
    repository = tmp_path / "repository"
    (repository / "clusters").mkdir(parents=True)
    for script in SCRIPTS:
        shutil.copy(script, repository)
    (tmp_path / ".azure").mkdir()
    settings = cloud.environment(world.storage)
    # A cloud's configuration overrides the addresses that the CLI knows.
    clouds = f"[AzureCloud]\nendpoint_resource_manager = {settings['ARM_ENDPOINT']}\n"
    (tmp_path / ".azure" / "clouds.config").write_text(clouds, encoding="utf-8")
    endpoint = IdentityEndpoint(cloud.entra, world.clock, [], identity)
    application = web.Application()
    application.add_routes(endpoint.routes())
    async with AsyncExitStack() as opened:
        url = await serve(opened, application, None)
        trusted = dict.fromkeys(("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"), settings["SSL_CERT_FILE"])
        environment = {**azure_cli.environment(tmp_path), **trusted, **endpoint.environment(url)}
        login = await run_program([str(az), "login", "--identity", "--output", "none"], environment, tmp_path)
        assert (login.code, login.err) == (0, "")
        yield Agent(world, identity, repository, environment)


@pytest.fixture
async def agent(world: World, pipeline: Path, tmp_path: Path) -> AsyncIterator[Agent]:
    """An agent whose identity has the role that the pipeline's comment asks for."""
    async with open_agent(world, role_actions(pipeline), tmp_path) as agent:
        yield agent


@pytest.fixture
async def front(agent: Agent, host: HostProcess, authority: Authority) -> AsyncIterator[HostProcess]:
    """The platform in front of the host: https, at the address that Azure returns with the key."""
    async with AsyncExitStack() as opened:
        session = await opened.enter_async_context(aiohttp.ClientSession(auto_decompress=False))

        async def forward(request: web.Request) -> web.Response:
            headers = {name: value for name, value in request.headers.items() if name not in {"Host", "Content-Length"}}
            body = await request.read()
            async with session.request(
                request.method, f"{host.url}{request.path_qs}", headers=headers, data=body
            ) as got:
                kept = {name: value for name, value in got.headers.items() if name in _KEPT}
                return web.Response(status=got.status, body=await got.read(), headers=kept)

        application = web.Application()
        application.router.add_route("*", "/{path:.*}", forward)
        url = await serve(opened, application, authority)
        agent.world.cloud.arm.function_apps.add(FunctionApp(APP_ID, url.removeprefix("https://"), host.keys.default))
        yield host


async def serve(opened: AsyncExitStack, application: web.Application, authority: Authority | None) -> str:
    server = Server(application, authority=authority)
    await server.start()
    opened.push_async_callback(server.stop)
    return server.url


@pytest.mark.servers
@each_pipeline
async def test_a_step_onboards_what_it_can_and_reports_the_rest_as_errors(
    pipeline: Path, agent: Agent, front: HostProcess
) -> None:
    """First with one body that can be onboarded, then with others that cannot."""
    cloud, key = agent.world.cloud, front.keys.default
    west, edge, new = [await cloud.add_cluster(name, "main", ready=False) for name in ("west", "edge", "new")]
    only = agent.body("west", west.id, hub="main")
    run, log = await agent.run(pipeline)
    assert (run.code, run.err) == (0, ""), run
    assert (log.groups, log.errors, log.masks) == ([only], [], [key])
    assert (await agent.world.read_token(west)).startswith("ya29.")

    await edge.server.stop()
    bodies = {
        "west": only,
        "edge": agent.body("edge", edge.id, hub="main", refresher="in-cluster"),
        "new": agent.body("new", new.id),
        "else": agent.body("else", ClusterId("0" * 8 + "-0000-0000-0000-" + "0" * 12, GROUP, "else"), hub="main"),
    }
    run, log = await agent.run(pipeline)
    assert run.code == 1, run
    assert sorted(log.groups) == sorted(bodies.values())
    errors = dict(log.errors)
    assert errors.keys() == {bodies["new"], bodies["else"]}
    assert "awaits the publisher" in errors[bodies["new"]]
    assert "not onboarded" in errors[bodies["else"]]
    assert log.masks == [key]
    assert key not in "\n".join(log.shown) + run.err
    written = sorted(path.name for path in agent.repository.rglob("*.yaml"))
    assert written == ["edge-manifests.yaml"]
    manifests = yaml.safe_load_all((agent.repository / "clusters" / written[0]).read_text(encoding="utf-8"))
    assert "CronJob" in {one["kind"] for one in manifests}


@pytest.mark.servers
@each_pipeline
async def test_a_step_without_a_key_fails_before_it_onboards(pipeline: Path, agent: Agent) -> None:
    arm, principal = agent.world.cloud.arm, agent.identity.principal_id
    arm.unassign(principal, APP_ID, role_actions(pipeline))
    arm.assign(principal, APP_ID, role_actions(pipeline) - {LIST_KEYS})
    agent.body("west", ClusterId(SUBSCRIPTION, GROUP, "west"))
    run, log = await agent.run(pipeline)
    assert run.code != 0
    assert LIST_KEYS in run.err
    assert (log.groups, log.masks) == ([], [])


@each_pipeline
def test_a_pipeline_asks_for_a_role_with_two_actions(pipeline: Path) -> None:
    assert role_actions(pipeline) == {f"{SITES}/read", LIST_KEYS}
