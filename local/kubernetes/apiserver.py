"""Real Kubernetes API servers without containers: kube-apiserver processes that share one etcd.

The binaries come from `tests/apiserver/build`. There are no controllers and no kubelets: a deleted namespace stays
Terminating, and a quota's status is what a client writes into it.
"""

import json
import ssl
import subprocess
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from local.process import Port, Process

BUILD = Path(__file__).parents[2] / "tests" / "apiserver" / "build"
AKS_SERVER_APPLICATION = "6dae42f8-4368-4678-94ff-3960e28e3630"


@dataclass(frozen=True, slots=True)
class Issuer:
    """Whose JWTs an API server accepts: `url` equals their `iss`, the keys are found from `discovery_url` over TLS."""

    url: str
    discovery_url: str
    ca_pem: str


def binaries(version: str = "1.37") -> Path | None:
    """The folder with kube-apiserver and etcd if it is at hand; builds nothing. `version` is major.minor."""
    found = subprocess.run([BUILD, "--which", version], stdout=subprocess.PIPE, text=True, check=False)
    return Path(found.stdout.strip()) if found.returncode == 0 else None


class Etcd:
    """The one etcd behind any number of API servers, each under a prefix of its own. Keeps nothing."""

    def __init__(self, folder: Path) -> None:
        """Use the binaries in `folder`, as `binaries` finds it."""
        self.binaries = folder
        self.url = ""
        self._clusters = 0

    def next_prefix(self) -> tuple[str, bool]:
        """A prefix that no other API server has, and whether it is the first."""
        self._clusters += 1
        return f"/c{self._clusters}", self._clusters == 1

    async def start(self) -> None:
        self._ports = client, peer = Port(), Port()
        self.url = f"http://127.0.0.1:{client.number}"
        peer_url = f"http://127.0.0.1:{peer.number}"
        self._process = Process(self.binaries / "etcd")
        await self._process.start(
            [
                "--unsafe-no-fsync",
                "--socket-reuse-port",
                f"--data-dir={self._process.folder}/data",
                f"--listen-client-urls={self.url}",
                f"--advertise-client-urls={self.url}",
                f"--listen-peer-urls={peer_url}",
                f"--initial-advertise-peer-urls={peer_url}",
                f"--initial-cluster=default={peer_url}",
            ],
            f"{self.url}/readyz",
        )

    async def stop(self) -> None:
        self._process.stop()
        for port in self._ports:
            port.release()

    def suspend(self) -> AbstractContextManager[None]:
        """Answers nothing meanwhile."""
        return self._process.suspend()


class RealApiServer:
    """A kube-apiserver with RBAC, a CA of its own, and trust in the JWTs of one issuer."""

    def __init__(self, name: str, *, etcd: Etcd, issuer: Issuer, flags: Sequence[str] = ()) -> None:
        """Take further `flags` as the command line has them, such as `--max-mutating-requests-inflight=1`."""
        self.name = name
        self._etcd = etcd
        self._issuer = issuer
        self._flags = flags
        authority = trustme.CA(organization_name=f"Kubernetes {name}")
        self._serving = authority.issue_cert("127.0.0.1", "localhost")
        admin = authority.issue_cert("admin@local", common_name="masterclient", organization_name="system:masters")
        self.ca_pem = authority.cert_pem.bytes().decode()
        self.admin_cert_pem = admin.cert_chain_pems[0].bytes().decode()
        self.admin_key_pem = admin.private_key_pem.bytes().decode()
        self.url = ""

    async def start(self) -> None:
        """Start and wait until it is ready. The etcd and the issuer must answer already."""
        self._port = Port()
        self.url = f"https://127.0.0.1:{self._port.number}"
        self._process = Process(self._etcd.binaries / "kube-apiserver")
        folder = self._process.folder
        arguments = [*self._arguments(folder), *self._flags]
        through = aiohttp.TCPConnector(ssl=self._admin_tls(folder))
        await self._process.start(arguments, f"{self.url}/readyz", through)

    async def stop(self) -> None:
        self._process.stop()
        self._port.release()

    def suspend(self) -> AbstractContextManager[None]:
        """Answers nothing meanwhile."""
        return self._process.suspend()

    def _arguments(self, folder: Path) -> list[str]:
        prefix, first = self._etcd.next_prefix()
        serving = folder / "serving.pem"
        serving.write_bytes(self._serving.private_key_and_cert_chain_pem.bytes())
        ca = folder / "ca.pem"
        ca.write_text(self.ca_pem)
        (folder / "admin.pem").write_text(self.admin_key_pem + self.admin_cert_pem)
        signing = folder / "service-accounts.pem"
        signing.write_bytes(_new_key_pem())
        authentication = folder / "authentication.json"
        authentication.write_text(json.dumps(_trust_in(self._issuer)))
        return [
            f"--etcd-servers={self._etcd.url}",
            f"--etcd-prefix={prefix}",
            *([] if first else ["--etcd-compaction-interval=0"]),  # one of them compacts for all
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={self._port.number}",
            "--permit-port-sharing",
            f"--cert-dir={folder}",
            f"--tls-cert-file={serving}",
            f"--tls-private-key-file={serving}",
            f"--client-ca-file={ca}",
            f"--authentication-config={authentication}",
            "--authorization-mode=RBAC",
            f"--service-account-issuer={self.url}",
            f"--service-account-signing-key-file={signing}",
            f"--service-account-key-file={signing}",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--endpoint-reconciler-type=none",
            "--allow-privileged=true",
            # It would refuse every pod, because nothing creates the default service accounts.
            "--disable-admission-plugins=ServiceAccount",
        ]

    def _admin_tls(self, folder: Path) -> ssl.SSLContext:
        tls = ssl.create_default_context(cadata=self.ca_pem)
        tls.load_cert_chain(folder / "admin.pem")
        return tls


def _new_key_pem() -> bytes:
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )


def _trust_in(issuer: Issuer) -> dict[str, object]:
    """The authentication configuration of an AKS cluster with Entra integration, as near as upstream comes to it."""
    return {
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "AuthenticationConfiguration",
        "jwt": [
            {
                "issuer": {
                    "url": issuer.url,
                    "discoveryURL": issuer.discovery_url,
                    "audiences": [AKS_SERVER_APPLICATION],
                    "certificateAuthority": issuer.ca_pem,
                },
                "claimMappings": {
                    "username": {"expression": "claims.oid"},
                    "groups": {"expression": "has(claims.groups) ? claims.groups : []"},
                },
            }
        ],
    }
