"""The package that is deployed and released: the same bytes each time, complete, hosted locally and by Microsoft's
worker.
"""

import hashlib
import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest
from packaging.requirements import Requirement

from local.cloud import LocalCluster
from local.function_host import HostProcess
from local.package import PACKAGE, PYTHON, ROOT, SITE_PACKAGES, build, find_files, read_rules
from local.release import prepare
from pullkeeper.fleet.shards import shard_of
from pullkeeper.version import VERSION
from tests.bench.package import APP, ISOLATED
from tests.docs import azure_cli
from tests.docs.test_release import NOTES
from tests.end_to_end.conftest import read_token, until
from tests.worker.conftest import SUCCESS, Worker
from tests.worker.test_app import INVOCATIONS, REFRESH_MESSAGE
from tests.world import World

Start = Callable[..., Awaitable[Worker]]
_platforms_python = pytest.mark.skipif(
    sys.version_info[:2] != tuple(map(int, PYTHON.split("."))), reason=f"the package is for Python {PYTHON}"
)
pytestmark = pytest.mark.timeout(300)
"""Files by the thousand: unpacked, and removed again."""
_MARK = f"{VERSION}+package"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("package") / "pullkeeper.zip"
    build(path)
    return path


@pytest.fixture(scope="module")
def app(package: Path) -> Path:
    """The package unpacked. Its version is marked, so that a response shows whose code has run."""
    folder = package.with_name("app")
    with zipfile.ZipFile(package) as archive:
        archive.extractall(folder)
    version = folder / "pullkeeper" / "version.py"
    version.write_text(version.read_text(encoding="utf-8").replace(f'"{VERSION}"', f'"{_MARK}"'), encoding="utf-8")
    return folder


def test_every_file_of_a_release_has_the_version_in_its_name_and_a_digest(package: Path, tmp_path: Path) -> None:
    """Its package is built a second time here, and has the same bytes."""
    azure_cli.program("cyclonedx-py")
    folder = tmp_path / "release"
    assert prepare(f"v{VERSION}", NOTES, folder) == "### Added\n\n- A thing.\n"
    files = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert files[PACKAGE.name] == package.read_bytes()
    assert [name for name in files if VERSION not in name] == []
    digests = files.pop(f"SHA256SUMS-{VERSION}").decode().splitlines()
    assert digests == [f"{hashlib.sha256(content).hexdigest()}  {name}" for name, content in sorted(files.items())]

    materials = json.loads(files[f"pullkeeper-{VERSION}.cdx.json"])
    listed = {(one["name"].lower().replace("-", "_"), one["version"]) for one in materials["components"]}
    with zipfile.ZipFile(package) as archive:
        names = "\n".join(archive.namelist())
    packed = re.findall(rf"^{SITE_PACKAGES}/([^/]+)-([^/]+)\.dist-info/METADATA$", names, re.MULTILINE)
    assert {(name.lower(), version) for name, version in packed} - listed == set()
    assert materials["metadata"]["component"]["version"] == VERSION


def test_it_holds_nothing_of_the_machine_that_built_it(package: Path) -> None:
    with zipfile.ZipFile(package) as archive:
        entries = archive.infolist()
        assert [entry.filename for entry in entries] == sorted(entry.filename for entry in entries)
        assert {(entry.date_time, entry.create_system, entry.external_attr) for entry in entries} == {
            ((1980, 1, 1, 0, 0, 0), 3, 0o100644 << 16)
        }
        places = (str(ROOT).encode(), str(Path(sys.executable).parent).encode(), b"pullkeeper-package-")
        assert [
            entry.filename
            for entry in entries
            if entry.filename.endswith((".pyc", "/RECORD")) or any(place in archive.read(entry) for place in places)
        ] == []


def test_it_holds_the_app_and_no_file_that_only_this_repository_needs(package: Path) -> None:
    """A new file at the top is either deployed on purpose, or named in .funcignore."""
    with zipfile.ZipFile(package) as archive:
        names = archive.namelist()
    top = {name.partition("/")[0] for name in names}
    deployed = {"function_app.py", "functions", "host.json", "manifests", "pullkeeper", "requirements.txt"}
    assert top - {SITE_PACKAGES.parts[0]} == deployed
    assert [name for name in names if name.startswith("pullkeeper/cli/")] == []


def test_it_holds_no_settings_and_no_keys_of_the_machine_that_built_it(tmp_path: Path) -> None:
    """Most of them are not at hand when the tests run."""
    names = (".azure/config.json", "local.settings.json", ".env", ".venv/bin/python", ".local/state", ".git/config")
    for name in (*names, "function_app.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert [*find_files(tmp_path, read_rules(ROOT))] == [Path("function_app.py")]


def test_it_holds_every_package_of_the_lock_for_the_platform(package: Path) -> None:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").replace("\\\n", "").splitlines()
    pins = [Requirement(line.partition("--hash")[0]) for line in lines if "==" in line]
    platform = {"python_version": PYTHON, "python_full_version": f"{PYTHON}.0", "sys_platform": "linux"}
    wanted = {
        (one.name.lower().replace("-", "_"), str(one.specifier).removeprefix("=="))
        for one in pins
        if one.marker is None or one.marker.evaluate({**platform, "platform_system": "Linux"})
    }
    with zipfile.ZipFile(package) as archive:
        names = archive.namelist()
        wheels = [archive.read(name).decode() for name in names if name.endswith(".dist-info/WHEEL")]
    found = re.findall(rf"^{SITE_PACKAGES}/([^/]+)-([^/]+)\.dist-info/METADATA$", "\n".join(names), re.MULTILINE)
    assert {(name.lower(), version) for name, version in found} == wanted
    tags = [tag for wheel in wheels for tag in re.findall(r"^Tag: (.+)$", wheel, re.MULTILINE)]
    allowed = re.compile(r"(cp313-cp313|cp3\d+-abi3)-manylinux\w+_x86_64|py[23]-none-any")
    assert [tag for tag in tags if not allowed.fullmatch(tag)] == []


def test_the_platform_has_the_python_that_it_is_for() -> None:
    template = json.loads((ROOT / "infra" / "azuredeploy.json").read_text(encoding="utf-8"))
    assert set(re.findall(r'"name": "python", "version": "([\d.]+)"', json.dumps(template))) == {PYTHON}


@_platforms_python
def test_it_needs_no_other_package(app: Path) -> None:
    """-S: Python's standard library and the package are all that can be imported."""
    script = f"import {APP}; print(len(function_app.app.get_functions()))"
    done = subprocess.run(
        [sys.executable, *ISOLATED, "-c", script],
        cwd=app,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.stdout.strip(), done.stderr) == (str(len(INVOCATIONS)), "")


@pytest.mark.servers
@_platforms_python
async def test_timer_and_queue_refresh_a_secret_on_the_local_host(world: World, app: Path) -> None:
    cluster = await world.join("aks-1")
    own = {"PYTHONPATH": str(app / SITE_PACKAGES), "REFRESH_SCHEDULE": "* * * * * *"}
    async with HostProcess(app, {**world.cloud.environment(world.storage), **own}) as host:
        await until(lambda: _is_written(world, cluster))
        address, keys = f"{host.url}/api/openapi.json", {"x-functions-key": host.keys.default}
        async with aiohttp.ClientSession() as session, session.get(address, headers=keys) as response:
            assert (await response.json())["info"]["version"] == _MARK


async def _is_written(world: World, cluster: LocalCluster) -> bool:
    return await read_token(world, cluster) is not None


@pytest.mark.servers
@_platforms_python
async def test_a_message_refreshes_a_secret_in_microsofts_worker(worker: Start, world: World, app: Path) -> None:
    cluster = await world.join("aks-1")
    settings = {**world.cloud.environment(world.storage), "PYTHONPATH": str(app / SITE_PACKAGES)}
    worker_with_app = await worker(app, settings)
    assert worker_with_app.indexed["functions"].keys() == INVOCATIONS.keys()
    message = {**REFRESH_MESSAGE, "body": json.dumps({"shard": shard_of(cluster.id), "reason": "due"})}
    refreshed = await worker_with_app.invoke("refresh", queue=message)
    assert refreshed["result"]["status"] == SUCCESS, refreshed
    assert (await world.target(cluster)).state(world.clock()) == "fresh"
    response = await worker_with_app.invoke("openapi", **INVOCATIONS["openapi"][0])
    assert json.loads(response["return_value"]["http"]["body"]["bytes"])["info"]["version"] == _MARK
