"""Private keys (P-256) and certificates, as PEM files."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from vedette.errors import KeysError, MissingExtra
from vedette.files import write_atomic

try:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import (
        ECDSA,
        SECP256R1,
        EllipticCurvePrivateKey,
        EllipticCurvePublicKey,
        generate_private_key,
    )
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
except ImportError:
    raise MissingExtra("devices' keys need cryptography: pip install 'vedette[mesh]'") from None

__all__ = [
    "certificate_in",
    "certify",
    "der_of",
    "holds_signature",
    "issued",
    "name_of",
    "new_key",
    "read_certificate",
    "read_key",
    "signed",
    "write_pair",
]

EARLIER = timedelta(hours=1)
"""How far the clock of a device may be behind ours."""


def new_key() -> EllipticCurvePrivateKey:
    """Make a key."""
    return generate_private_key(SECP256R1())


def write_pair(base: Path, certificate: x509.Certificate, key: EllipticCurvePrivateKey) -> None:
    """Write ``base.pem`` and then ``base.key``, which is for its owner's eyes only."""
    write_atomic(base.with_suffix(".pem"), certificate.public_bytes(Encoding.PEM))
    write_atomic(base.with_suffix(".key"), key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), mode=0o600)


def read_key(path: Path) -> EllipticCurvePrivateKey:
    """Read a key.

    Raises
    ------
    KeysError
        It is absent, damaged, no P-256 key, or others may read it.
    """
    try:
        if path.stat().st_mode & 0o077:
            raise KeysError(f"others may read the key {path}; keep it to its owner with: chmod 600 {path}")
        key = load_pem_private_key(path.read_bytes(), None)
        if not isinstance(key, EllipticCurvePrivateKey):
            raise ValueError("it is of another kind")
    except (OSError, ValueError, TypeError) as error:
        raise _unreadable(path, error) from None
    return key


def read_certificate(path: Path) -> x509.Certificate:
    """Read a certificate.

    Raises
    ------
    KeysError
        It is absent or damaged.
    """
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None


def certify(
    name: str, key: EllipticCurvePrivateKey, days: float, authority: tuple[x509.Certificate, EllipticCurvePrivateKey] | None
) -> x509.Certificate:
    """Make a certificate.

    Parameters
    ----------
    name
        Its common name.
    key
        Whose it is.
    days
        From now on, how long it holds.
    authority
        Who signs it; None makes an authority, which signs for itself.

    Raises
    ------
    KeysError
        The authority ends sooner.
    """
    now = datetime.now(UTC)
    try:
        end = now + timedelta(days=days)
    except OverflowError:
        raise KeysError(f"nobody needs keys for {days:g} days") from None
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(authority[0].subject if authority else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - EARLIER)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=authority is None, path_length=None if authority else 0), critical=True)
    )
    if authority:
        last = authority[0].not_valid_after_utc
        if end > last:
            raise KeysError(
                f"the authority itself ends on {last:%Y-%m-%d}, before {end:%Y-%m-%d}: take fewer --days, or begin a new fleet's folder"
            )
        # Whoever is linked to is a server, whoever links is a client; a device is both.
        uses = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        builder = builder.add_extension(uses, critical=False)
    return builder.sign(authority[1] if authority else key, SHA256())


def name_of(certificate: x509.Certificate) -> str:
    """Return the common name; empty if there is none."""
    return next((str(name.value) for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)), "")


def issued(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """Say whether it was the authority that signed a certificate."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False
    return True


def der_of(certificate: x509.Certificate) -> bytes:
    """Return a certificate as bytes that travel."""
    return certificate.public_bytes(Encoding.DER)


def certificate_in(data: bytes) -> x509.Certificate:
    """Return the certificate that bytes from anybody hold.

    Raises
    ------
    KeysError
        They hold none.
    """
    try:
        return x509.load_der_x509_certificate(data)
    except (ValueError, x509.InvalidVersion):
        raise KeysError("what came is no certificate") from None


def signed(key: EllipticCurvePrivateKey, said: bytes) -> bytes:
    """Return the signature under something (ECDSA, SHA-256)."""
    return key.sign(said, ECDSA(SHA256()))


def holds_signature(certificate: x509.Certificate, signature: bytes, said: bytes) -> bool:
    """Say whether it was the key of a certificate that signed something."""
    key = certificate.public_key()
    if not isinstance(key, EllipticCurvePublicKey):
        return False
    try:
        key.verify(signature, said, ECDSA(SHA256()))
    except InvalidSignature:
        return False
    return True


def _unreadable(path: Path, error: Exception) -> KeysError:
    return KeysError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}; is {path.parent} whole, as 'vedette keys' made it?")
