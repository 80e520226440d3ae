"""The examples for pipelines: linted, and their step run as the agent would run it, with the real Azure CLI."""

import json
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
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
from local.host import HostProcess
from local.serving import Authority, Server
from pullkeeper.model import ClusterId
from tests.apiserver import at_hand
from tests.docs import azure_cli
from tests.docs.pages import read
from tests.docs.pipelines import EXAMPLES, PIPELINES, SCRIPT, Heard, Step, actions, run_to_the_end, scripts
from tests.world import World

APP_ID: Final = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers/{SITES}/pullkeeper"
LIST_KEYS: Final = f"{SITES}/host/listKeys/action"
KEY: Final = "the-key-of-an-app-that-nobody-calls"
_KEPT: Final = {"Content-Type", "Location", "Retry-After"}
each_pipeline = pytest.mark.parametrize("pipeline", PIPELINES, ids=lambda path: path.name)


@each_pipeline
def test_a_pipeline_runs_the_script(pipeline: Path) -> None:
    (commands,) = scripts(yaml.safe_load(read(pipeline)))
    assert commands == Step.of(pipeline).text
    assert f"bash {SCRIPT.name} " in commands
    used = set(re.findall(r"PULLKEEPER_[A-Z]+", commands))
    assert {"PULLKEEPER_URL", "PULLKEEPER_KEY"} <= used <= set(re.findall(r"PULLKEEPER_[A-Z]+", SCRIPT.read_text()))


@each_pipeline
def test_shellcheck_has_nothing_to_say_of_a_step(pipeline: Path) -> None:
    arguments: list[str | Path] = [at_hand.program("shellcheck"), "--shell=bash", "-"]
    text = Step.of(pipeline).text
    done = subprocess.run(arguments, input=text, capture_output=True, text=True, check=False, timeout=30)
    assert done.stdout == ""


def test_actions_are_pinned_by_commit() -> None:
    used = re.findall(r"uses: (.+)", (EXAMPLES / "github-actions.yml").read_text(encoding="utf-8"))
    assert used
    assert [one for one in used if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v[\d.]+", one)] == []


def linted(workflow: Path) -> str:
    """What actionlint has against it: keys, permissions, runners, expressions; and shellcheck against its steps."""
    # Where it finds no shellcheck it would do without.
    shellcheck = f"-shellcheck={at_hand.program('shellcheck')}"
    arguments: list[str | Path] = [azure_cli.program("actionlint"), "-no-color", shellcheck, workflow]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=30)
    return done.stdout + done.stderr


def validated(pipeline: Path, folder: Path) -> str:
    """What Microsoft's schema has against it, down to the inputs of each task. It is one of strings, as Azure reads all
    scalars; and its patterns are JavaScript's of before the flag u.
    """
    document = folder / "pipeline.json"
    document.write_text(json.dumps(yaml.load(read(pipeline), yaml.BaseLoader)), encoding="utf-8")
    schema = ["--builtin-schema", "vendor.azure-pipelines", "--data-transform", "azure-pipelines"]
    program = azure_cli.program("check-jsonschema")
    arguments: list[str | Path] = [program, *schema, "--regex-variant", "nonunicode", document]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=30)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def broken(pipeline: str, wrong: str, right: str, folder: Path) -> Path:
    """A copy of the example with a mistake in it."""
    text = read(EXAMPLES / pipeline)
    assert right in text
    copy = folder / pipeline
    copy.write_text(text.replace(right, wrong, 1), encoding="utf-8")
    return copy


def test_actionlint_has_nothing_to_say_of_the_example_for_github() -> None:
    assert linted(EXAMPLES / "github-actions.yml") == ""


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("runson:", "runs-on:"),
        ("id-tokens:", "id-token:"),
        ("ubuntu-2404", "ubuntu-24.04"),
        ("variables.PULLKEEPER", "vars.PULLKEEPER"),
        ("onboard.sh $body", 'onboard.sh "$body"'),
    ],
)
def test_actionlint_finds_a_mistake(wrong: str, right: str, tmp_path: Path) -> None:
    assert linted(broken("github-actions.yml", wrong, right, tmp_path)) != ""


def test_the_example_for_azure_is_what_its_schema_asks_for(tmp_path: Path) -> None:
    assert validated(EXAMPLES / "azure-pipelines.yml", tmp_path) == ""


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("step:", "steps:"),
        ("timeout:", "timeoutInMinutes:"),
        ("AzureCLI@9", "AzureCLI@2"),
        ("scriptPlace:", "scriptLocation:"),
        ("sh", "bash"),
    ],
)
def test_the_schema_finds_a_mistake(wrong: str, right: str, tmp_path: Path) -> None:
    assert validated(broken("azure-pipelines.yml", f" {wrong}", f" {right}", tmp_path), tmp_path) != ""


@dataclass(frozen=True, slots=True)
class Ended:
    code: int
    heard: Heard
    err: str


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent's machine: the real az, logged in as the pipeline's identity, and a repository with onboard.sh."""

    world: World
    identity: Identity
    repository: Path
    environment: dict[str, str]

    def body(self, name: str, cluster: ClusterId, **wanted: Any) -> str:
        """The path in the repository."""
        path = self.repository / "clusters" / f"{name}.json"
        path.write_text(json.dumps({"cluster": str(cluster), **wanted}), encoding="utf-8")
        return str(path.relative_to(self.repository))

    async def run(self, pipeline: Path) -> Ended:
        step = Step.of(pipeline)
        script = self.repository.parent / "step.sh"
        script.write_text(step.text, encoding="utf-8")
        environment = {**self.environment, **step.filled({"PULLKEEPER_APP_ID": APP_ID, "pullkeeperAppId": APP_ID})}
        run = await run_to_the_end([*step.shell, str(script)], environment, self.repository)
        return Ended(run.code, Heard.of(step, run.out), run.err)


@pytest.fixture
async def agent(world: World, pipeline: Path, tmp_path: Path) -> AsyncIterator[Agent]:
    """Its identity has the role that the pipeline's comment asks for, on the app alone."""
    az = azure_cli.program("az")
    cloud = world.cloud
    identity = cloud.entra.add_identity("onboarding-pipeline")
    cloud.arm.function_apps.add(FunctionApp(APP_ID, "127.0.0.1:9", KEY))
    cloud.arm.assign(identity.principal_id, APP_ID, actions(pipeline))
    repository = tmp_path / "repository"
    (repository / "clusters").mkdir(parents=True)
    shutil.copy(SCRIPT, repository)
    (tmp_path / ".azure").mkdir()
    settings = cloud.environment(world.storage)
    # The CLI lets what is configured for a cloud override what it knows of it.
    clouds = f"[AzureCloud]\nendpoint_resource_manager = {settings['ARM_ENDPOINT']}\n"
    (tmp_path / ".azure" / "clouds.config").write_text(clouds, encoding="utf-8")
    endpoint = IdentityEndpoint(cloud.entra, world.clock, [], identity)
    application = web.Application()
    application.add_routes(endpoint.routes())
    async with AsyncExitStack() as opened:
        url = await _serve(opened, application, None)
        trusted = dict.fromkeys(("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"), settings["SSL_CERT_FILE"])
        environment = {**azure_cli.environment(tmp_path), **trusted, **endpoint.environment(url)}
        login = await run_to_the_end([str(az), "login", "--identity", "--output", "none"], environment, tmp_path)
        assert (login.code, login.err) == (0, "")
        yield Agent(world, identity, repository, environment)


@pytest.fixture
async def front(agent: Agent, host: HostProcess, authority: Authority) -> AsyncIterator[HostProcess]:
    """The platform in front of the host: https, at the address that Azure gives out with the key."""
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
        url = await _serve(opened, application, authority)
        agent.world.cloud.arm.function_apps.add(FunctionApp(APP_ID, url.removeprefix("https://"), host.keys.default))
        yield host


async def _serve(opened: AsyncExitStack, application: web.Application, authority: Authority | None) -> str:
    server = Server(application, authority=authority)
    await server.start()
    opened.push_async_callback(server.stop)
    return server.url


@pytest.mark.servers
@each_pipeline
async def test_a_step_onboards_what_it_can_and_tells_the_agent_what_it_cannot(
    pipeline: Path, agent: Agent, front: HostProcess
) -> None:
    cloud, key = agent.world.cloud, front.keys.default
    west, edge, new = [await cloud.add_cluster(name, "main", ready=False) for name in ("west", "edge", "new")]
    await edge.server.stop()
    bodies = {
        "west": agent.body("west", west.id, hub="main"),
        "edge": agent.body("edge", edge.id, hub="main", refresher="in-cluster"),
        "new": agent.body("new", new.id),
        "else": agent.body("else", ClusterId("0" * 8 + "-0000-0000-0000-" + "0" * 12, GROUP, "else"), hub="main"),
    }
    ended = await agent.run(pipeline)
    assert ended.code == 1, ended
    assert sorted(ended.heard.groups) == sorted(bodies.values())
    told = dict(ended.heard.errors)
    assert told.keys() == {bodies["new"], bodies["else"]}
    assert "awaits the publisher" in told[bodies["new"]]
    assert "not onboarded" in told[bodies["else"]]
    assert ended.heard.masks == [key]
    assert key not in "\n".join(ended.heard.shown) + ended.err
    assert (await agent.world.read_token(west)).startswith("ya29.")
    written = sorted(path.name for path in agent.repository.rglob("*.yaml"))
    assert written == ["edge-manifests.yaml"]
    manifests = yaml.safe_load_all((agent.repository / "clusters" / written[0]).read_text(encoding="utf-8"))
    assert "CronJob" in {one["kind"] for one in manifests}


@pytest.mark.servers
@each_pipeline
async def test_a_step_that_onboards_all_ends_well(pipeline: Path, agent: Agent, front: HostProcess) -> None:
    cluster = await agent.world.cloud.add_cluster("west", "main", ready=False)
    body = agent.body("west", cluster.id, hub="main")
    ended = await agent.run(pipeline)
    assert (ended.code, ended.err) == (0, ""), ended
    assert (ended.heard.groups, ended.heard.errors) == ([body], [])
    assert ended.heard.masks == [front.keys.default]


@pytest.mark.servers
@each_pipeline
async def test_a_step_that_gets_no_key_goes_no_further(pipeline: Path, agent: Agent) -> None:
    arm, principal = agent.world.cloud.arm, agent.identity.principal_id
    arm.unassign(principal, APP_ID, actions(pipeline))
    arm.assign(principal, APP_ID, actions(pipeline) - {LIST_KEYS})
    agent.body("west", ClusterId(SUBSCRIPTION, GROUP, "west"))
    ended = await agent.run(pipeline)
    assert ended.code != 0
    assert LIST_KEYS in ended.err
    assert (ended.heard.groups, ended.heard.masks) == ([], [])


@each_pipeline
def test_the_role_that_a_pipeline_asks_for_is_two_actions(pipeline: Path) -> None:
    assert actions(pipeline) == {f"{SITES}/read", LIST_KEYS}
