"""Azure Storage on this machine: Azurite from npm, pinned in `local/azurite/`, in memory, on ports the system picks.

    with Azurite() as azurite:                 # or: await azurite.start() ... await azurite.stop()
        azurite.account("refresh-test")        # the connection string of an empty account

Whoever needs clean storage takes an account of its own: that costs nothing, a further Azurite costs seconds.
"""

import asyncio
import base64
import re
import secrets
import shutil
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from local.serving import Authority

_HOME = Path(__file__).with_name("azurite")
_FLAGS = (
    *("--inMemoryPersistence", "--silent"),
    "--skipApiVersionCheck",  # the SDKs speak newer versions of the protocol than Azurite knows of
    "--disableTelemetry",  # it would call out
    *("--blobPort", "0", "--queuePort", "0", "--tablePort", "0"),
)
_LISTENING = re.compile(r"Azurite (Blob|Queue|Table) service is successfully listening at (\S+)")
_SERVICES = frozenset({"Blob", "Queue", "Table"})
# Azurite reads its accounts once, from one environment variable of at most 128 KiB.
_ACCOUNTS = 1000


class AzuriteError(RuntimeError):
    """Azurite cannot be started; the message says why and, where there is one, the command that mends it."""


class Azurite:
    """One Azurite process. It ends with this process, however that ends.

    `patience` is how long it may take to answer; it needs two seconds on an idle machine. With an `authority` it speaks
    TLS, and takes Entra's tokens beside the accounts' keys: it looks at their issuer, audience and times, and not at
    their signatures.
    """

    def __init__(
        self, *, home: Path = _HOME, patience: timedelta = timedelta(minutes=1), authority: Authority | None = None
    ) -> None:
        self._home = home
        self._authority = authority
        self._patience = patience
        self._keys = {f"account{n:04}": base64.b64encode(secrets.token_bytes(32)).decode() for n in range(_ACCOUNTS)}
        self._given: dict[str, str] = {}
        self._endpoints: dict[str, str] = {}
        self._output: IO[bytes] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def account(self, name: str) -> str:
        """The connection string of the account known here as `name` (any text). It is empty at first."""
        account = self._account(name)
        fields = {
            "DefaultEndpointsProtocol": "http",
            "AccountName": account,
            "AccountKey": self._keys[account],
        } | {f"{service}Endpoint": url for service, url in self.endpoints(name).items()}
        return ";".join(f"{key}={value}" for key, value in fields.items())

    def endpoints(self, name: str) -> dict[str, str]:
        """Where the account's services are: `Blob`, `Queue`, `Table`."""
        account = self._account(name)
        return {service: f"{url}/{account}" for service, url in sorted(self._endpoints.items())}

    def _account(self, name: str) -> str:
        if not self._endpoints:
            raise AzuriteError("Azurite is not running")
        if name not in self._given:
            if len(self._given) == _ACCOUNTS:
                raise AzuriteError(f"all {_ACCOUNTS} accounts of this Azurite are taken")
            self._given[name] = f"account{len(self._given):04}"
        return self._given[name]

    async def start(self) -> None:
        await asyncio.to_thread(self.__enter__)

    async def stop(self) -> None:
        await asyncio.to_thread(self._stop)

    def __enter__(self) -> Self:
        self._launch()
        try:
            self._wait_until_ready()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _launch(self) -> None:
        node = shutil.which("node")
        if node is None:
            raise AzuriteError("Azurite needs Node.js 20 or later on PATH; install it, then run `make setup`")
        if not (self._home / "node_modules" / "azurite").is_dir():
            raise AzuriteError("Azurite is not installed; run `make setup`")
        tls = self._tls(self._authority) if self._authority else []
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process; _stop closes it
        accounts = ";".join(f"{name}:{key}" for name, key in self._keys.items())
        # Nothing of our environment: a proxy, NODE_OPTIONS or an AZURITE_* variable there must not change the tests.
        self._process = subprocess.Popen(
            [node, str(self._home / "run.cjs"), *_FLAGS, *tls],
            env={"AZURITE_ACCOUNTS": accounts},
            stdin=subprocess.PIPE,  # never written to: Azurite ends when it closes
            stdout=self._output,
            stderr=subprocess.STDOUT,
        )

    def _tls(self, authority: Authority) -> list[str]:
        self._folder = tempfile.TemporaryDirectory(prefix="pullkeeper-azurite-")
        file = Path(self._folder.name) / "server.pem"
        file.write_text(authority.certificate())
        return [f"--cert={file}", f"--key={file}", "--oauth=basic"]

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + self._patience.total_seconds()
        endpoints: dict[str, str] = {}
        while endpoints.keys() != _SERVICES:
            if self._process is None or self._process.poll() is not None:
                raise AzuriteError(f"Azurite ended at once:\n{self._said()}")
            if time.monotonic() > deadline:
                raise AzuriteError(f"Azurite is not ready after {self._patience}:\n{self._said()}")
            time.sleep(0.02)
            endpoints = dict(_LISTENING.findall(self._said()))
        for service, url in endpoints.items():
            _greet(service, url, self._authority)
        self._endpoints = endpoints

    def _said(self) -> str:
        if self._output is None:
            return ""
        self._output.seek(0)
        return self._output.read().decode(errors="replace")

    def _stop(self) -> None:
        self._endpoints = {}
        self._given = {}
        if self._process is not None:
            self._process.kill()  # all it has is in memory: there is nothing to close in order
            self._process.communicate()
            self._process = None
        if self._output is not None:
            self._output.close()
            self._output = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None


def _greet(service: str, url: str, authority: Authority | None) -> None:
    """Ask for what no account has: a refusal signed by the service itself proves that it serves."""
    trust = urllib.request.HTTPSHandler(context=ssl.create_default_context(cadata=authority.pem if authority else None))
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), trust)
    try:
        with opener.open(f"{url}/nobody?comp=list", timeout=10) as answer:
            server = answer.headers["Server"]
    except urllib.error.HTTPError as refusal:
        with refusal:
            server = refusal.headers["Server"]
    if not server.startswith(f"Azurite-{service}/"):
        raise AzuriteError(f"{url} is served by {server}, not by Azurite's {service} service")
