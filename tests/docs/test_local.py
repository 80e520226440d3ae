"""The page about `func start`, and the devcontainer: programs, versions, commands and responses are the real ones."""

import asyncio
import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import aiohttp
import pytest

from local.azurite import Azurite
from local.function_host import HostProcess
from tests.docs.pages import ROOT, blocks, read

PAGE = ROOT / "docs" / "local.md"
COMMANDS = [shlex.split(line) for block in blocks("sh") if block.page == PAGE for line in block.text.splitlines()]
CONTAINER = json.loads(read(ROOT / ".devcontainer" / "devcontainer.json"))


def find_command(word: str) -> list[str]:
    [found] = [command for command in COMMANDS if word in command[0]]
    return found


@pytest.mark.servers
async def test_azurite_starts_as_the_page_says(tmp_path: Path) -> None:
    """On free ports here, with its files in an empty folder."""
    program, *options = find_command("azurite")
    ports = [word for service in ("blob", "queue", "table") for word in (f"--{service}Port", "0")]
    azurite = await asyncio.create_subprocess_exec(
        ROOT / program, *options, *ports, cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    assert azurite.stdout
    try:
        async with asyncio.timeout(60):
            output = ""
            while "Azurite Table service is successfully listening" not in output:
                line = await azurite.stdout.readline()
                assert line, output
                output += line.decode()
    finally:
        azurite.terminate()
        await azurite.communicate()
    assert list((tmp_path / ".local" / "azurite").iterdir())
    assert {"--skipApiVersionCheck", "--disableTelemetry"} <= {*options}


def test_make_start_runs_func_with_the_packages_of_the_project() -> None:
    # Without the variables of a make that runs the tests.
    environment = {"PATH": os.environ["PATH"]}
    asked = ["make", "-n", "start"]
    dry = subprocess.run(
        asked, cwd=ROOT, env=environment, capture_output=True, text=True, check=True, timeout=60
    ).stdout
    assert f'PATH="{ROOT}/.venv/bin:$PATH" func start' in dry
    copied = " ".join(find_command("cp"))
    assert copied in dry


@pytest.mark.servers
async def test_the_app_responds_as_the_page_shows(azurite: Azurite, request: pytest.FixtureRequest) -> None:
    """With the sample's settings. Here the host asks for a key, unlike Core Tools."""
    values = json.loads(read(ROOT / "local.settings.sample.json"))["Values"]
    settings = {**values, "AzureWebJobsStorage": azurite.account(request.node.nodeid)}
    shown = [json.loads(block.text) for block in blocks("json") if block.page == PAGE]
    urls = [command[1].removeprefix("http://localhost:7071") for command in COMMANDS if command[0] == "curl"]
    async with HostProcess(ROOT, settings) as host, aiohttp.ClientSession() as session:
        master = {"x-functions-key": host.keys.master}
        async with session.get(host.url + urls[0]) as response:
            assert [await response.json()] == shown
        async with session.get(host.url + urls[1], headers=master) as response:
            assert (await response.json())["clusters"] == []
        async with session.post(host.url + urls[2], headers=master, json={}) as response:
            assert response.status == 202


def test_the_devcontainer_has_the_versions_that_the_readme_asks_for() -> None:
    [(first, last, node)] = re.findall(r"Python (3\.\d+) to (3\.\d+), Node\.js (\d+)", read(ROOT / "README.md"))
    [python] = re.findall(r"python:(3\.\d+)-", CONTAINER["image"])
    features = {name.split("/")[-1].split(":")[0]: options for name, options in CONTAINER["features"].items()}
    assert int(first[2:]) <= int(python[2:]) <= int(last[2:])
    assert features["node"]["version"] == node
    assert f"\ngo {features['go']['version']}" in read(ROOT / "tests" / "docs" / "judges" / "go.mod")
    assert f"Python {first} to {last}, Node.js {node}" in " ".join(read(PAGE).split())


def test_the_devcontainer_has_the_programs_that_ci_installs() -> None:
    [listed] = re.findall(r"for package in (.+); do", read(ROOT / ".ci" / "run"))
    assert set(listed.split()) <= set(CONTAINER["onCreateCommand"].split())
    assert " ".join(find_command("npm")) in CONTAINER["postCreateCommand"]
