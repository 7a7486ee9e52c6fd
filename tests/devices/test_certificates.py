"""Certificates as they are written: who may read them, what they say, and what is refused."""

import datetime
import stat

import pytest
from cryptography import x509

import lola
from lola.cli.main import main
from lola.devices import BrokerAddress, Certificates, write_mosquitto


@pytest.fixture
def certificates(tmp_path):
    return Certificates.create(tmp_path / "c", ["127.0.0.1", "broker.example.org"])


def read(path):
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_keys_are_for_their_owner_alone(certificates):
    certificates.add_device("ann")
    keys = list(certificates.folder.rglob("*.key"))
    assert {key.stem for key in keys} == {"authority", "broker", "server", "ann"}
    assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}


def test_a_certificate_says_who_for_how_long_and_for_what(certificates):
    ann = read(certificates.add_device("ann", days=30)[0])
    broker, authority, server = (
        read(path) for path in (certificates.broker[0], certificates.authority, certificates.paths("server")[0])
    )
    assert [one.subject.rfc4514_string() for one in (ann, server)] == ["CN=ann", "CN=server"]
    assert ann.not_valid_after_utc - ann.not_valid_before_utc == datetime.timedelta(days=30, hours=1)
    assert len({one.serial_number for one in (ann, broker, authority, server)}) == 4
    for one in (ann, broker, server):
        one.verify_directly_issued_by(authority)
        assert not one.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    purposes = [one.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value for one in (ann, broker)]
    assert [purpose._name for (purpose,) in purposes] == ["clientAuth", "serverAuth"]
    names = broker.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["broker.example.org"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]


def test_a_revoked_name_may_be_given_again(certificates):
    first = read(certificates.add_device("ann")[0]).serial_number
    certificates.add_device("bob")
    certificates.revoke("ann")
    assert certificates.devices() == ["bob"]
    with pytest.raises(FileNotFoundError, match="there is no certificate of ann; add the device first"):
        certificates.paths("ann")
    second = read(certificates.add_device("ann")[0]).serial_number
    certificates.revoke("bob")
    listed = x509.load_pem_x509_crl(certificates.revoked.read_bytes())
    serials = [one.serial_number for one in listed]
    assert serials[0] == first
    assert len(serials) == 2
    assert second not in serials


@pytest.mark.parametrize("name", ["", "a/b", "+", "#", "a b", "../x", "-a", "ü", "a" * 65, "a\n", 3])
def test_a_name_that_is_none_is_refused(certificates, name):
    with pytest.raises(ValueError, match="a device must be named by 1 to 64 of the characters .*; choose another name"):
        certificates.add_device(name)


def test_what_cannot_be_is_refused_with_the_reason(certificates, tmp_path):
    certificates.add_device("ann")
    with pytest.raises(FileExistsError, match="ann has a certificate already; revoke it first, or choose another name"):
        certificates.add_device("ann")
    with pytest.raises(ValueError, match="a device must have a name of its own, got 'server', the server's"):
        certificates.add_device("server")
    with pytest.raises(FileExistsError, match="a new or empty folder was wanted for an authority"):
        Certificates.create(certificates.folder, ["127.0.0.1"])
    with pytest.raises(ValueError, match="a broker needs at least one host that clients know it by, got none"):
        Certificates.create(tmp_path / "d", [])
    with pytest.raises(ValueError, match="a broker's host must be a name or an address, got 'a b'"):
        Certificates.create(tmp_path / "d", ["a b"])
    with pytest.raises(ValueError, match="port must be at most 65535, got 70000"):
        write_mosquitto(certificates, port=70000)
    with pytest.raises(ValueError, match="a run must be named by 1 to 64 of the characters .*, got '[+]'; choose"):
        write_mosquitto(certificates, runs=["tiny", "+"])
    with pytest.raises(ValueError, match="devices must be let take part in at least one run, got none; name it"):
        write_mosquitto(certificates, runs=[])
    odd = Certificates.create(tmp_path / "a\nb", ["127.0.0.1"])
    with pytest.raises(ValueError, match="a folder with a plain name was wanted, for it stands in a file; rename it"):
        write_mosquitto(odd)
    certificates.authority.write_text("no certificate")
    with pytest.raises(lola.FormatError, match="a certificate in PEM was wanted: .*; make it anew"):
        certificates.add_device("bob")
    (certificates.folder / "authority.key").write_text("no key")
    with pytest.raises(lola.FormatError, match="a certificate in PEM was wanted|a private key in PEM was wanted"):
        certificates.revoke("ann")


def test_an_address_has_all_three_files_or_none(certificates, tmp_path):
    certificate, key = certificates.add_device("ann")
    assert BrokerAddress().tls() is None
    with pytest.raises(ValueError, match="TLS needs authority, certificate and key, got some of them; give all three"):
        BrokerAddress(key=key)
    with pytest.raises(ValueError, match=r"a broker must have a host and a port in 1…65535, got .*; such as"):
        BrokerAddress(port=0)
    with pytest.raises(FileNotFoundError, match="there is no such certificate or key; make one by lola certificates"):
        BrokerAddress(authority=tmp_path / "none", certificate=certificate, key=key).tls()
    other = certificates.add_device("bob")[1]
    with pytest.raises(ValueError, match="a certificate and its key in PEM, and an authority's, were wanted"):
        BrokerAddress(authority=certificates.authority, certificate=certificate, key=other).tls()


def test_the_command_makes_adds_and_revokes(tmp_path, capsys):
    folder = tmp_path / "c"
    assert main(["certificates", str(folder), "--host", "127.0.0.1", "--port", "9000", "--device", "ann"]) == 0
    said = capsys.readouterr().out
    assert f"mosquitto -c {folder / 'mosquitto.conf'}" in said
    assert f"ann needs {folder / 'devices/ann.pem'}, {folder / 'devices/ann.key'} and" in said
    assert "listener 9000\n" in (folder / "mosquitto.conf").read_text()
    assert "pattern write lola/run/answer/%u\n" in (folder / "access.txt").read_text()
    other = tmp_path / "other"
    more = ["--run", "one", "--run", "two", "--most-bytes", "5000"]
    assert main(["certificates", str(other), "--host", "127.0.0.1", *more]) == 0
    assert "message_size_limit 5000\nmax_packet_size 6024\n" in (other / "mosquitto.conf").read_text()
    assert (other / "access.txt").read_text().count("pattern write lola/two/answer/%u\n") == 1
    assert "lola/run/" not in (other / "access.txt").read_text()
    capsys.readouterr()
    assert main(["certificates", str(folder), "--device", "bob", "--revoke", "ann", "--days", "3"]) == 0
    assert Certificates(folder).devices() == ["bob"]
    assert "revoked: ann; restart the broker" in capsys.readouterr().out
    for arguments, why in (
        ([str(folder), "--host", "127.0.0.1"], "a new or empty folder was wanted for an authority"),
        ([str(folder), "--port", "1"], "--port is of a new broker, and needs --host"),
        ([str(folder), "--most-bytes", "5"], "--most-bytes is of a new broker, and needs --host; or change mosquitto"),
        ([str(folder), "--run", "two"], "--run is of a new broker, and needs --host; or add its lines to access.txt"),
        ([str(folder), "--device", "a/b"], "a device must be named by 1 to 64 of the characters"),
        ([str(folder), "--revoke", "eve"], "there is no certificate of eve; add the device first"),
        ([str(tmp_path / "none"), "--device", "ann"], "there is no authority; make one, by --host"),
    ):
        assert main(["certificates", *arguments]) == 64
        assert why in capsys.readouterr().err
