"""Encrypted connections, with certificates made for the test."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

import kvmodel as kv
from kvmodel.testing.etcd import EtcdCluster
from tests.drivers.etcd.conftest import need_server

x509 = pytest.importorskip("cryptography.x509", reason="certificates are made with cryptography")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an authority, and certificates of a server and of a client."""
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    folder = tmp_path_factory.mktemp("certificates")
    now = datetime.now(timezone.utc)
    authority = ec.generate_private_key(ec.SECP256R1())

    def issue(name: str, is_authority: bool) -> None:
        key = authority if is_authority else ec.generate_private_key(ec.SECP256R1())
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "ca")]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
        )
        if not is_authority:
            names = [x509.DNSName("etcd.test"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate = builder.sign(authority, hashes.SHA256())
        (folder / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        (folder / f"{name}.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )

    issue("ca", True)
    issue("server", False)
    issue("client", False)
    return folder


@pytest.fixture(scope="module")
def server(certificates: Path) -> Iterator[EtcdCluster]:
    """A server that wants certificates."""
    need_server()
    options = (
        *("--cert-file", str(certificates / "server.pem"), "--key-file", str(certificates / "server.key")),
        *("--trusted-ca-file", str(certificates / "ca.pem"), "--client-cert-auth"),
    )
    with EtcdCluster(options=options, scheme="https") as cluster:
        yield cluster


async def test_certificates(server: EtcdCluster, certificates: Path) -> None:
    """Both sides prove who they are; the name that is checked can be given."""
    query = f"ca={certificates}/ca.pem&cert={certificates}/client.pem&key={certificates}/client.key"
    for more in ("", "&server_name=etcd.test"):
        async with kv.connect(f"etcd+tls://{server.nodes[0].address}?{query}{more}") as db:
            assert db._connection.driver.address == f"etcd+tls://{server.nodes[0].address}"
    with pytest.raises(kv.Unavailable):
        await kv.connect(f"etcd+tls://{server.nodes[0].address}?{query}&server_name=other.test&connect_timeout=4")


async def test_no_certificate(server: EtcdCluster, certificates: Path) -> None:
    """A client without one, one that does not know the authority, and one that does not encrypt can't connect."""
    for scheme, query in (("etcd+tls", f"ca={certificates}/ca.pem&"), ("etcd+tls", ""), ("etcd", "")):
        with pytest.raises(kv.StoreError):
            await kv.connect(f"{scheme}://{server.nodes[0].address}?{query}connect_timeout=3")


@pytest.mark.parametrize(
    ("url", "field"),
    [
        ("etcd://h?ca=/x", "ca"),
        ("etcd://h?server_name=x", "server_name"),
        ("etcd+tls://h?cert=/x", "key"),
        ("etcd+tls://h?key=/x", "cert"),
        ("etcd+tls://h?ca=/nowhere/ca.pem", "ca"),
    ],
)
async def test_options_that_make_no_sense(url: str, field: str) -> None:
    """They are refused, before anything is sent."""
    with pytest.raises(kv.ValidationError) as caught:
        await kv.connect(url)
    assert caught.value.field == field
