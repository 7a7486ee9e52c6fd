"""Where a broker is, and what its clients show it."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from lola.files.formats import StrPath
from lola.solvers.errors import LolaValueError


@dataclass(frozen=True)
class BrokerAddress:
    """Where a broker is, and what its clients show it.

    Parameters
    ----------
    host : str
    port : int
        8883 with certificates, as usual, 1883 without.
    authority, certificate, key : path-like, optional
        PEM files: the authority that the broker's certificate must be of, and the client's own certificate with its
        key. All three, for TLS of version 1.2 or later; or none, for a broker on this machine alone.

    Raises
    ------
    ValueError
        If some of the three are left out, or the port is none.
    """

    host: str = "127.0.0.1"
    port: int = 1883
    authority: StrPath | None = None
    certificate: StrPath | None = None
    key: StrPath | None = None

    def __post_init__(self) -> None:
        if not self.host or not isinstance(self.port, int) or not 0 < self.port < 65536:
            raise LolaValueError(f"a broker must have a host and a port in 1…65535, got {self}; such as 192.0.2.1:8883")
        files = (self.authority, self.certificate, self.key)
        if any(files) and not all(files):
            raise LolaValueError(
                "TLS needs authority, certificate and key, got some of them; give all three, or none for a broker on "
                "this machine"
            )

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    def tls(self) -> ssl.SSLContext | None:
        """Return what checks the broker's certificate and shows one's own, or None where there are none.

        Raises
        ------
        OSError, ValueError
            If a file cannot be read, or is no certificate or key.
        """
        if self.authority is None or self.certificate is None or self.key is None:
            return None
        for path in map(Path, (self.authority, self.certificate, self.key)):
            if not path.is_file():
                raise FileNotFoundError(f"{path}: there is no such certificate or key; make one by lola certificates")
        try:
            context = ssl.create_default_context(cafile=self.authority)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.load_cert_chain(self.certificate, self.key)
        except ssl.SSLError as error:
            raise LolaValueError(
                f"{self.certificate}: a certificate and its key in PEM, and an authority's, were wanted: {error}; "
                "make them by lola certificates"
            ) from None
        return context
