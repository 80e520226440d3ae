"""Azure Storage on this machine: Azurite from npm, pinned in `local/azurite/`, in memory, on free ports.

    with Azurite() as azurite:                 # or: await azurite.start() ... await azurite.stop()
        azurite.account("refresh-test")        # the connection string of an empty account

A test that needs empty storage uses an account of its own, which costs nothing. Another Azurite costs seconds.
"""

import asyncio
import base64
import re
import secrets
import shutil
import time
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

from local.process import Process, ServerDiedError
from local.serving import Authority

_HOME = Path(__file__).with_name("azurite")
_FLAGS = (
    "--inMemoryPersistence",
    "--skipApiVersionCheck",  # the SDKs speak newer versions of the protocol than Azurite knows
    "--disableTelemetry",  # it would call Microsoft
    *("--blobPort", "0", "--queuePort", "0", "--tablePort", "0"),
)
_LISTENING = re.compile(r"Azurite (Blob|Queue|Table) service is successfully listening at (\S+)")
_REQUEST = re.compile(r'"([A-Z]+) (/\S+) HTTP/1.1" \d{3}')
_SERVICES = frozenset({"Blob", "Queue", "Table"})
# Azurite reads its accounts once, from one environment variable of at most 128 KiB.
_ACCOUNTS = 1000
_START_WITHIN = timedelta(minutes=1)  # two seconds on an idle machine


class AzuriteError(RuntimeError):
    """Azurite cannot be started. The message says why, and which command fixes it."""


class Azurite:
    """One Azurite process. It ends with this process, however that ends.

    With an `authority` it serves TLS and accepts Entra's tokens beside account keys, as `--oauth basic` does: it checks
    issuer, audience and times of a token, but not its signature.

    access_log: write a line for each request, for `requests` to read.
    """

    def __init__(self, *, home: Path = _HOME, authority: Authority | None = None, access_log: bool = False) -> None:
        self._home = home
        self._authority = authority
        self._access_log = access_log
        self._keys = {f"account{n:04}": base64.b64encode(secrets.token_bytes(32)).decode() for n in range(_ACCOUNTS)}
        self._accounts: dict[str, str] = {}
        self._endpoints: dict[str, str] = {}
        self._process: Process | None = None

    def account(self, name: str) -> str:
        """The connection string of the account with this name (any text). It is empty at first."""
        account = self._account(name)
        fields = {
            "DefaultEndpointsProtocol": "https" if self._authority else "http",
            "AccountName": account,
            "AccountKey": self._keys[account],
        } | {f"{service}Endpoint": url for service, url in self.endpoints(name).items()}
        return ";".join(f"{key}={value}" for key, value in fields.items())

    def endpoints(self, name: str) -> dict[str, str]:
        """The URLs of the account's services: `Blob`, `Queue`, `Table`."""
        account = self._account(name)
        return {service: f"{url}/{account}" for service, url in sorted(self._endpoints.items())}

    def identity_settings(self, name: str, client_id: str) -> dict[str, str]:
        """The app settings with which the host and the app reach the account by identity, as on Azure."""
        uris = {
            f"AzureWebJobsStorage__{service.lower()}ServiceUri": url for service, url in self.endpoints(name).items()
        }
        return {
            **uris,
            "AzureWebJobsStorage__credential": "managedidentity",
            "AzureWebJobsStorage__clientId": client_id,
        }

    def _account(self, name: str) -> str:
        if not self._endpoints:
            raise AzuriteError("Azurite is not running")
        if name not in self._accounts:
            if len(self._accounts) == _ACCOUNTS:
                raise AzuriteError(f"all {_ACCOUNTS} accounts of this Azurite are in use")
            self._accounts[name] = f"account{len(self._accounts):04}"
        return self._accounts[name]

    @property
    def pid(self) -> int:
        if self._process is None:
            raise AzuriteError("Azurite is not running")
        return self._process.pid

    def requests(self) -> list[tuple[str, str]]:
        """Return method and path, with its query, of every request until now. Needs `access_log`."""
        if self._process is None or not self._access_log:
            raise AzuriteError("Azurite has no access log")
        return _REQUEST.findall((self._process.folder / "log").read_text(errors="replace"))

    async def start(self) -> None:
        await asyncio.to_thread(self.__enter__)

    async def stop(self) -> None:
        await asyncio.to_thread(self._stop)

    def __enter__(self) -> Self:
        node = shutil.which("node")
        if node is None:
            raise AzuriteError("Azurite needs Node.js 20 or later on PATH; install it, then run `make setup`")
        program = self._home / "node_modules" / "azurite" / "dist" / "src" / "azurite.js"
        if not program.is_file():
            raise AzuriteError("Azurite is not installed; run `make setup`")
        self._process = Process(Path(node))
        accounts = ";".join(f"{name}:{key}" for name, key in self._keys.items())
        try:
            # Without our environment: a proxy, NODE_OPTIONS or an AZURITE_* variable must not change the tests.
            self._process.spawn(
                [
                    str(program),
                    *_FLAGS,
                    *([] if self._access_log else ["--silent"]),
                    *self._tls_flags(self._process.folder),
                ],
                {"AZURITE_ACCOUNTS": accounts},
            )
            self._endpoints = self._wait_until_ready(self._process)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _tls_flags(self, folder: Path) -> list[str]:
        if self._authority is None:
            return []
        file = folder / "server.pem"
        file.write_text(self._authority.certificate())
        return [f"--cert={file}", f"--key={file}", "--oauth=basic"]

    def _wait_until_ready(self, process: Process) -> dict[str, str]:
        """Return the URL of each service."""
        deadline = time.monotonic() + _START_WITHIN.total_seconds()
        endpoints: dict[str, str] = {}
        while endpoints.keys() != _SERVICES:
            try:
                process.check_alive()
            except ServerDiedError as e:
                raise AzuriteError(f"Azurite does not start: {e}") from None
            if time.monotonic() > deadline:
                raise AzuriteError(f"Azurite is not ready after {_START_WITHIN}:\n{process.log_tail()}")
            time.sleep(0.02)
            endpoints = dict(_LISTENING.findall(process.log_tail()))
        return endpoints

    def _stop(self) -> None:
        self._endpoints = {}
        self._accounts = {}
        if self._process is not None:
            self._process.stop()  # with SIGKILL: all data is in memory
            self._process = None
