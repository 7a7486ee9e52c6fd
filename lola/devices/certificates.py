"""Who may take part: an authority of one's own, and the certificates it signs for a broker, a server and devices."""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from lola.devices.topics import SERVER, check_device
from lola.files.formats import FormatError, StrPath, write_atomically
from lola.solvers.checks import positive_integer, shown
from lola.solvers.errors import LolaValueError

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

_AUTHORITY_DAYS, _DAYS = 3650, 825
_EARLIER = datetime.timedelta(hours=1)  # clocks of devices differ
_AUTHORITY, _BROKER, _REVOKED = "authority", "broker", "revoked.pem"


class Certificates:
    """A folder of certificates: ``authority``, ``broker``, ``server`` and ``devices/NAME``, each ``.pem`` and ``.key``.

    The authority's key stays where it is: who has it decides who takes part. A device needs its own two files and
    ``authority.pem``.

    Parameters
    ----------
    folder : path-like

    Raises
    ------
    ImportError
        If the extra ``devices`` is not installed.
    """

    def __init__(self, folder: StrPath) -> None:
        try:
            import cryptography  # noqa: F401
        except ImportError as error:
            raise ImportError("certificates need cryptography; install lola-deft[devices]") from error
        self.folder = Path(folder)

    @classmethod
    def create(cls, folder: StrPath, hosts: Iterable[str], *, days: int = _DAYS) -> Certificates:
        """Make an authority, a certificate for the broker and one for the server, and an empty list of revoked ones.

        Parameters
        ----------
        folder : path-like
            That does not exist yet, or is empty.
        hosts : iterable of str
            Names or addresses that clients know the broker by.
        days : int
            That certificates are valid for; the authority's own is for ten years.

        Raises
        ------
        FileExistsError
            If there is something in the folder.
        ValueError
            If there is no host, or it is no name.
        """
        made, names = cls(folder), _alternative_names(hosts)
        if made.folder.exists() and any(made.folder.iterdir()):
            raise FileExistsError(
                f"{folder}: a new or empty folder was wanted for an authority, and there is something in it; name "
                "another"
            )
        (made.folder / "devices").mkdir(parents=True, exist_ok=True)
        made._make_authority()
        made._sign(_BROKER, _BROKER, days, server=True, names=names)
        made._sign(SERVER, SERVER, days)
        made._write_revoked([])
        return made

    def add_device(self, name: str, *, days: int = _DAYS) -> tuple[Path, Path]:
        """Make a device's certificate and key, and return their paths.

        Raises
        ------
        ValueError
            If the name is none for a device.
        FileExistsError
            If it has a certificate already.
        """
        self._sign(f"devices/{check_device(name)}", name, days)
        return self.paths(name)

    def revoke(self, name: str) -> None:
        """Put the certificate of a device, or of the server, on the list of revoked ones, and set its files aside.

        Whoever has them is let in no more once the broker has read the list again (mosquitto: a restart). The name may
        then get another certificate.

        Raises
        ------
        FileNotFoundError
            If there is no such certificate.
        """
        certificate, key = self.paths(name)
        serial = _read(certificate).serial_number
        self._write_revoked([*self._revoked(), serial])
        for path in (certificate, key):
            path.rename(path.with_name(f"{path.name}.revoked-{serial:x}"))

    def paths(self, name: str) -> tuple[Path, Path]:
        """Return where the certificate and the key of a device, or of the server, are.

        Raises
        ------
        FileNotFoundError
            If they are not there.
        """
        stem = SERVER if name == SERVER else f"devices/{check_device(name)}"
        certificate, key = self.folder / f"{stem}.pem", self.folder / f"{stem}.key"
        for path in (certificate, key):
            if not path.is_file():
                raise FileNotFoundError(f"{path}: there is no certificate of {name}; add the device first")
        return certificate, key

    @property
    def authority(self) -> Path:
        """The authority's certificate."""
        return self.folder / f"{_AUTHORITY}.pem"

    @property
    def broker(self) -> tuple[Path, Path]:
        """The broker's certificate and key."""
        return self.folder / f"{_BROKER}.pem", self.folder / f"{_BROKER}.key"

    @property
    def revoked(self) -> Path:
        """The list of revoked certificates."""
        return self.folder / _REVOKED

    def devices(self) -> list[str]:
        """Return the names of the devices that have a certificate."""
        return sorted(path.stem for path in (self.folder / "devices").glob("*.pem"))

    def _make_authority(self) -> None:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes

        key, now = _new_key(), _now()
        name = _named("lola authority")
        certificate = (
            x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - _EARLIER)
            .not_valid_after(now + datetime.timedelta(days=_AUTHORITY_DAYS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        self._write(_AUTHORITY, certificate, key)

    def _sign(
        self,
        stem: str,
        name: str,
        days: int,
        *,
        server: bool = False,
        names: Iterable[x509.GeneralName] = (),
    ) -> None:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes
        from cryptography.x509.oid import ExtendedKeyUsageOID

        if (self.folder / f"{stem}.pem").exists():
            raise FileExistsError(
                f"{self.folder / stem}.pem: {name} has a certificate already; revoke it first, or choose another name"
            )
        issuer, issuer_key = _read(self.authority), self._authority_key()
        key, now = _new_key(), _now()
        end = now + datetime.timedelta(days=positive_integer("days", days))
        purpose = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
        signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
        builder = (
            x509.CertificateBuilder(issuer.subject, _named(name), key.public_key(), x509.random_serial_number())
            .not_valid_before(now - _EARLIER)
            .not_valid_after(min(end, issuer.not_valid_after_utc))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(signer, critical=False)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        self._write(stem, builder.sign(issuer_key, hashes.SHA256()), key)

    def _write(self, stem: str, certificate: x509.Certificate, key: EllipticCurvePrivateKey) -> None:
        from cryptography.hazmat.primitives import serialization

        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        # Nobody else may read it, not even while it is written.
        descriptor = os.open(self.folder / f"{stem}.key", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(private)
        write_atomically(
            self.folder / f"{stem}.pem", certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")
        )

    def _revoked(self) -> list[int]:
        from cryptography import x509

        return [one.serial_number for one in x509.load_pem_x509_crl(self.revoked.read_bytes())]

    def _write_revoked(self, serials: list[int]) -> None:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization

        issuer, now = _read(self.authority), _now()
        # As long as the authority: with a list that has run out, a broker lets nobody in.
        builder = x509.CertificateRevocationListBuilder(issuer.subject)
        builder = builder.last_update(now - _EARLIER).next_update(issuer.not_valid_after_utc)
        for serial in serials:
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now - _EARLIER)
            builder = builder.add_revoked_certificate(entry.build())
        listed = builder.sign(self._authority_key(), hashes.SHA256())
        write_atomically(self.revoked, listed.public_bytes(serialization.Encoding.PEM).decode("ascii"))

    def _authority_key(self) -> EllipticCurvePrivateKey:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

        path = self.folder / f"{_AUTHORITY}.key"
        try:
            key = serialization.load_pem_private_key(path.read_bytes(), None)
        except (ValueError, TypeError) as error:
            raise FormatError(f"{path}: a private key in PEM was wanted: {error}; make an authority anew") from None
        if not isinstance(key, EllipticCurvePrivateKey):
            raise FormatError(f"{path}: an elliptic curve's key was wanted, got {type(key).__name__}")
        return key


def _read(path: Path) -> x509.Certificate:
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except ValueError as error:
        raise FormatError(f"{path}: a certificate in PEM was wanted: {error}; make it anew") from None


def name_of(certificate: StrPath) -> str:
    """Return the device that a certificate is for.

    Raises
    ------
    FormatError, ValueError
        If it is no certificate, or of no device.
    OSError
        If it cannot be read.
    """
    from cryptography.x509.oid import NameOID

    named = _read(Path(certificate)).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return check_device(str(named[0].value) if named else "")


def _alternative_names(hosts: Iterable[str]) -> list[x509.GeneralName]:
    """Return what a broker's certificate says it is called."""
    from cryptography import x509

    names: list[x509.GeneralName] = []
    for host in hosts:
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            labels = host.split(".")
            if not all(label and label.replace("-", "a").isalnum() and label.isascii() for label in labels):
                raise LolaValueError(
                    f"a broker's host must be a name or an address, got {shown(host)}; such as broker.example.org"
                ) from None
            names.append(x509.DNSName(host))
    if not names:
        raise LolaValueError("a broker needs at least one host that clients know it by, got none; name one")
    return names


def _named(name: str) -> x509.Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _usage(*, signs: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _new_key() -> EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
