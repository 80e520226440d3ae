"""Which servers the in-cluster refresher's script calls, and which it trusts with a token."""

from datetime import UTC, datetime, timedelta
from typing import Final

import trustme
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from local.serving import Authority, Server
from tests.core.pod import DONE, NEVER, Pod

_STRICT: Final = """
import ssl
create = ssl.create_default_context
def create_strict(*arguments, **options):
    context = create(*arguments, **options)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    return context
ssl.create_default_context = create_strict
"""
"""As Python 3.13 does."""


async def test_a_server_that_is_not_trusted_is_not_tried_again(pod: Pod) -> None:
    (pod.folder / "ca.crt").write_text(Authority().pem)
    code, output = await pod.run()
    assert code == NEVER
    assert "did not respond: SSLCertVerificationError" in output


async def test_an_api_server_that_only_others_trust_gets_no_token(pod: Pod) -> None:
    """A public CA may sign the certificates of other services, and not that of the API server."""
    trusted = pod.folder / "system.crt"
    trusted.write_text((pod.folder / "ca.crt").read_text())
    (pod.folder / "ca.crt").write_text(Authority().pem)
    pod.environment["SSL_CERT_FILE"] = str(trusted)
    code, output = await pod.run()
    assert (code, pod.writes) == (NEVER, [])
    assert output.startswith("pullkeeper: kubernetes: ")
    assert output.endswith("did not respond: SSLCertVerificationError")


async def test_no_token_is_sent_without_tls(pod: Pod) -> None:
    pod.settings["google"]["tokenUrl"] = pod.settings["google"]["tokenUrl"].replace("https://", "http://")
    assert await pod.run() == (NEVER, "pullkeeper: google sts: the address must be https")


async def test_the_api_server_is_called_past_a_proxy(pod: Pod) -> None:
    pod.environment |= {"KUBERNETES_SERVICE_HOST": "localhost", "HTTPS_PROXY": "http://127.0.0.1:9"}
    code, output = await pod.run()
    assert (code, pod.writes) == (DONE, ["false"]), output


async def test_the_api_server_may_have_an_address_of_ipv6(pod: Pod) -> None:
    pod.environment |= {"KUBERNETES_SERVICE_HOST": "::1", "KUBERNETES_SERVICE_PORT": "9"}
    assert "kubernetes: [::1]:9 did not respond" in (await pod.run())[1]


async def test_a_ca_that_python_3_13_would_refuse_is_trusted(pod: Pod) -> None:
    """Its certificate lacks fields. Those of AKS's own have lacked some."""
    old, application = Old(), web.Application()
    application.router.add_route("*", "/{path:.*}", pod.respond)
    server = Server(application, authority=old)
    await server.start()
    with (pod.folder / "ca.crt").open("a") as trusted:
        trusted.write(old.pem)
    pod.environment["KUBERNETES_SERVICE_PORT"] = server.host.partition(":")[2]
    pod.prelude = _STRICT
    code, output = await pod.run()
    await server.stop()
    assert (code, pod.writes) == (DONE, ["false"]), output


class Old(Authority):
    """A CA whose certificate does not say what its key is for."""

    def __init__(self) -> None:
        key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
        for extension in (
            x509.BasicConstraints(ca=True, path_length=None),
            x509.SubjectKeyIdentifier.from_public_key(key.public_key()),
        ):
            builder = builder.add_extension(extension, critical=False)
        pem = serialization.Encoding.PEM
        plain = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        super().__init__(trustme.CA.from_pem(builder.sign(key, hashes.SHA256()).public_bytes(pem), plain))
