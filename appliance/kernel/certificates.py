"""Keys and certificates in PEM form: made, checked, described. Everything here computes, so call it in a worker thread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

__all__ = [
    "Attributes",
    "CertificateInfo",
    "check_certificate",
    "check_key",
    "describe",
    "make_key",
    "self_signed",
    "signing_request",
]

KEY_KINDS: Final = ("P-256", "2048", "3072", "4096")
LIFETIME: Final = 825  # days; some clients refuse longer ones


@dataclass(frozen=True, slots=True)
class Attributes:
    """Whom a certificate is for. `names` are the domain and its aliases; the first is the Common Name."""

    names: Sequence[str]
    country: str = ""
    province: str = ""
    city: str = ""
    organization: str = ""
    unit: str = ""
    contact: str = ""


@dataclass(frozen=True, slots=True)
class CertificateInfo:
    """What a page shows of a certificate; names as `attribute: value`."""

    issued_to: dict[str, str]
    issued_by: dict[str, str]
    valid_from: datetime
    valid_till: datetime
    names: tuple[str, ...]
    serial: int


def make_key(kind: str = "P-256") -> str:
    """A new private key: ECDSA P-256, or RSA of 2048, 3072 or 4096 bits. Raises ValueError for other kinds."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    if kind not in KEY_KINDS:
        raise ValueError("the key is P-256, 2048, 3072 or 4096")
    key = ec.generate_private_key(ec.SECP256R1()) if kind == "P-256" else rsa.generate_private_key(65537, int(kind))
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def _load_key(pem: str) -> PrivateKeyTypes:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        return load_pem_private_key(pem.encode(), None)
    except (ValueError, TypeError) as error:
        raise ValueError(f"this is not a private key without a password: {error}") from None


def check_key(pem: str) -> None:
    """The Key Test: signs and verifies. Raises ValueError for garbage, short RSA keys and kinds that TLS cannot use."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

    key = _load_key(pem)
    text = b"Verification String"
    if isinstance(key, rsa.RSAPrivateKey):
        if key.key_size < 2048:
            raise ValueError("RSA keys have 2048 bits or more")
        signature = key.sign(text, padding.PKCS1v15(), hashes.SHA256())
        key.public_key().verify(signature, text, padding.PKCS1v15(), hashes.SHA256())
    elif isinstance(key, ec.EllipticCurvePrivateKey):
        signature = key.sign(text, ec.ECDSA(hashes.SHA256()))
        key.public_key().verify(signature, text, ec.ECDSA(hashes.SHA256()))
    else:
        raise ValueError("RSA and ECDSA keys can be used")


def _subject(attributes: Attributes) -> x509.Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    values = [
        (NameOID.COUNTRY_NAME, attributes.country),
        (NameOID.STATE_OR_PROVINCE_NAME, attributes.province),
        (NameOID.LOCALITY_NAME, attributes.city),
        (NameOID.ORGANIZATION_NAME, attributes.organization),
        (NameOID.ORGANIZATIONAL_UNIT_NAME, attributes.unit),
        (NameOID.COMMON_NAME, attributes.names[0][:64]),
        (NameOID.EMAIL_ADDRESS, attributes.contact),
    ]
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in values if value])


def _alternatives(names: Sequence[str]) -> x509.SubjectAlternativeName:
    from cryptography import x509

    found: list[x509.GeneralName] = []
    for name in names:
        try:
            found.append(x509.IPAddress(ip_address(name)))
        except ValueError:
            found.append(x509.DNSName(name.encode("idna").decode() if not name.isascii() else name))
    return x509.SubjectAlternativeName(found)


def self_signed(key: str, attributes: Attributes, now: float) -> str:
    """A certificate that the key itself signs, valid from an hour before `now` (Unix seconds), for clocks that are late."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization

    private = _load_key(key)
    subject = _subject(attributes)
    begin = datetime.fromtimestamp(now, UTC) - timedelta(hours=1)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(private.public_key())  # type: ignore[arg-type]
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=LIFETIME))
        .add_extension(_alternatives(attributes.names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    )
    return builder.sign(private, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()  # type: ignore[arg-type]


def signing_request(key: str, attributes: Attributes) -> str:
    """A request (PKCS #10) for an authority."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization

    builder = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(_subject(attributes))
        .add_extension(_alternatives(attributes.names), critical=False)
    )
    return builder.sign(_load_key(key), hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()  # type: ignore[arg-type]


def check_certificate(key: str, certificate: str) -> None:
    """Raises ValueError if it is no PEM certificate, or belongs to another key."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    try:
        loaded = x509.load_pem_x509_certificate(certificate.encode())
    except ValueError as error:
        raise ValueError(f"this is not a certificate: {error}") from None
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if loaded.public_key().public_bytes(*form) != _load_key(key).public_key().public_bytes(*form):
        raise ValueError("the certificate belongs to another key")


def describe(pem: str) -> list[CertificateInfo]:
    """Every certificate of a PEM text in order. Raises ValueError."""
    from cryptography import x509

    infos = []
    for one in x509.load_pem_x509_certificates(pem.encode()):
        try:
            names = one.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            alternatives = tuple(str(name.value) for name in names)
        except x509.ExtensionNotFound:
            alternatives = ()
        infos.append(
            CertificateInfo(
                _name(one.subject),
                _name(one.issuer),
                one.not_valid_before_utc,
                one.not_valid_after_utc,
                alternatives,
                one.serial_number,
            )
        )
    return infos


_LABELS: Final = {
    "countryName": "Country",
    "stateOrProvinceName": "Province",
    "localityName": "City",
    "organizationName": "Organization",
    "organizationalUnitName": "Unit",
    "commonName": "Common Name",
    "emailAddress": "Contact",
}


def _name(name: x509.Name) -> dict[str, str]:
    found: dict[str, str] = {}
    for attribute in name:
        label = _LABELS.get(attribute.oid._name, attribute.oid._name)
        text = attribute.value if isinstance(attribute.value, str) else attribute.value.hex()
        found[label] = f"{found[label]}, {text}" if label in found else text
    return found
