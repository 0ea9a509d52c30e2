"""Domain Security: the key and the certificates that a domain shows to its clients (manual, chapter 8, Domain Security).

All stands in `Certificate.settings` of the domain's Settings directory, readable by the server only. A change counts for the next
connection; those that are open keep what they have. Computing is done in a worker thread, so a new key delays nobody.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar

from appliance.formats.data import Value
from appliance.kernel import certificates
from appliance.kernel.certificates import KEY_KINDS, Attributes, CertificateInfo
from appliance.kernel.clock import Clock
from appliance.kernel.operations import Caller, OperationError, Operations, Right
from appliance.kernel.settings import Storage
from appliance.kernel.tasks import in_thread
from appliance.objects.domain import Domain
from appliance.objects.domains import Domains

__all__ = ["ATTRIBUTES", "DomainSecurity"]

FILE: Final = "Certificate.settings"
KEY: Final = "PrivateKey"
CERTIFICATE: Final = "Certificate"
CHAIN: Final = "Chain"
ATTRIBUTES: Final = {
    "CommonName": "Common Name",
    "Country": "Country",
    "Province": "Province or State",
    "City": "City or Town",
    "Organization": "Organization",
    "Unit": "Organization Unit",
    "Contact": "Contact E-mail",
}
"""What is asked for a certificate, with its label."""
_LIMIT: Final = 1 << 18
"""Octets of a PEM text."""

_CONTACT: Final = re.compile(r"[^@\s]{1,64}@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*")

T = TypeVar("T")


class DomainSecurity:
    """The operations; `declare` offers them to all faces."""

    def __init__(self, domains: Domains, clock: Clock) -> None:
        self.domains = domains
        self.clock = clock

    @staticmethod
    def _storage(domain: Domain) -> Storage:
        return domain.storage(domain.path(FILE), 0o600)

    async def _load(self, domain: Domain) -> dict[str, str]:
        values = await self._storage(domain).load()
        return {key: value for key, value in values.items() if isinstance(value, str)}

    async def _change(self, domain: Domain, **changes: str | None) -> None:
        """Store these texts, without those that are None."""
        values: dict[str, Value] = {**await self._storage(domain).load()}
        for key, text in changes.items():
            if text is None:
                values.pop(key, None)
            else:
                values[key] = text
        await self._storage(domain).save(values)
        await self.domains.follow_settings()

    async def state(self, domain: Domain) -> dict[str, Value]:
        """What there is: whether there is a key, whether it works, what the certificates say."""
        values = await self._load(domain)
        shown: dict[str, Value] = {}
        key = values.get(KEY, "")
        if key:
            try:
                await in_thread(partial(certificates.check_key, key))
                shown["KeyTest"] = "Verification String is OK"
            except ValueError as error:
                shown["KeyTest"] = str(error)
        for name in (CERTIFICATE, CHAIN):
            if name in values:
                infos = await in_thread(partial(certificates.describe, values[name]))
                shown[name] = values[name]
                shown[f"{name}Info"] = [_described(info) for info in infos]
        return shown

    async def set_key(self, domain: Domain, text: str) -> None:
        """A key that is given in PEM form, or a new one of one of the KEY_KINDS. A certificate of another key goes."""
        text = _bounded(text)
        if text in KEY_KINDS:
            key = await in_thread(partial(certificates.make_key, text))
        else:
            key = text
            await _computed(lambda: certificates.check_key(key))
        await self._change(domain, PrivateKey=key, Certificate=None)

    async def remove_key(self, domain: Domain) -> None:
        """The key, and the certificate, which is nothing without it."""
        await self._change(domain, PrivateKey=None, Certificate=None)

    async def _key(self, domain: Domain) -> str:
        key = (await self._load(domain)).get(KEY, "")
        if not key:
            raise OperationError("the domain has no private key")
        return key

    async def self_sign(self, domain: Domain, given: dict[str, Value]) -> None:
        """A certificate that the domain's key signs itself."""
        key, attributes = await self._key(domain), _attributes(domain, given)
        made = await _computed(lambda: certificates.self_signed(key, attributes, self.clock.now()))
        await self._change(domain, Certificate=made)

    async def request(self, domain: Domain, given: dict[str, Value]) -> str:
        """A signing request for an authority; a certificate in use stays in use."""
        key, attributes = await self._key(domain), _attributes(domain, given)
        return await _computed(lambda: certificates.signing_request(key, attributes))

    async def set_certificate(self, domain: Domain, text: str) -> None:
        """The certificate that an authority made for the domain's key."""
        key, text = await self._key(domain), _bounded(text)
        await _computed(lambda: certificates.check_certificate(key, text))
        await self._change(domain, Certificate=text)

    async def set_chain(self, domain: Domain, text: str) -> None:
        """The authorities' certificates that clients are sent as well; empty for none."""
        text = _bounded(text)
        if text:
            await _computed(lambda: certificates.describe(text))
        await self._change(domain, Chain=text or None)

    def declare(self, operations: Operations) -> None:
        """Their names for the command line and the pages."""
        look = partial(operations.declare, right=Right.DOMAIN, of="domainName", section="Domain security")
        act = partial(operations.declare, right=Right.CERTIFICATE, of="domainName", section="Domain security")
        require = self.domains.require

        @look(
            "GetDomainSecurity [domainName]", summary="The key and the certificates of a domain.", result="dictionary"
        )
        async def get_security(caller: Caller, domain_name: str) -> Value:
            del caller
            return await self.state(require(domain_name))

        @act(
            "SetDomainPrivateKey [domainName KEY] privateKey",
            summary=f"Gives the domain a key in PEM form, or a new one: {', '.join(KEY_KINDS)}.",
        )
        async def set_key(caller: Caller, domain_name: str, private_key: str, key: bool = False) -> None:
            del caller, key
            await self.set_key(require(domain_name), private_key)

        @act("RemoveDomainPrivateKey [domainName]", summary="Removes the key and the certificate.")
        async def remove_key(caller: Caller, domain_name: str) -> None:
            del caller
            await self.remove_key(require(domain_name))

        @act("SelfSignDomainCertificate [domainName] [attributes{}]", summary="Makes a self-signed certificate.")
        async def self_sign(caller: Caller, domain_name: str, attributes: dict[str, Value] | None = None) -> None:
            del caller
            await self.self_sign(require(domain_name), attributes or {})

        @act(
            "GetDomainCertificateRequest [domainName] [attributes{}]",
            summary="Makes a signing request for an authority.",
            result="string",
        )
        async def request(caller: Caller, domain_name: str, attributes: dict[str, Value] | None = None) -> Value:
            del caller
            return await self.request(require(domain_name), attributes or {})

        @act("SetDomainCertificate [domainName CERTIFICATE] text", summary="Sets the certificate of the domain's key.")
        async def set_certificate(caller: Caller, domain_name: str, text: str, certificate: bool = False) -> None:
            del caller, certificate
            await self.set_certificate(require(domain_name), text)

        @act("RemoveDomainCertificate [domainName]", summary="Removes the certificate; the key stays.")
        async def remove_certificate(caller: Caller, domain_name: str) -> None:
            del caller
            await self._change(require(domain_name), Certificate=None)

        @act(
            "SetDomainCertificateChain [domainName CHAIN] text", summary="Sets the authorities' certificates, or none."
        )
        async def set_chain(caller: Caller, domain_name: str, text: str, chain: bool = False) -> None:
            del caller, chain
            await self.set_chain(require(domain_name), text)


def _bounded(text: str) -> str:
    text = text.replace("\r\n", "\n").strip()
    if len(text) > _LIMIT:
        raise OperationError("the text is too long")
    return text


async def _computed(work: Callable[[], T]) -> T:
    """In a worker thread. OperationError for what was wrong with the input."""
    try:
        return await in_thread(work)
    except ValueError as error:
        raise OperationError(str(error)) from None


def _attributes(domain: Domain, given: dict[str, Value]) -> Attributes:
    unknown = set(given) - set(ATTRIBUTES)
    if unknown:
        raise OperationError(f"unknown attribute {min(unknown)[:64]}")
    values = {key: value.strip() for key, value in given.items() if isinstance(value, str)}
    names = [domain.name, *domain.domain_aliases]
    common = values.pop("CommonName", "") or domain.name
    if common.lower() not in names:
        raise OperationError("the Common Name is the domain's name or one of its aliases")
    names.sort(key=lambda name: name != common.lower())
    if len(values.get("Country", "")) not in (0, 2):
        raise OperationError("the Country has two letters")
    values.setdefault("Contact", f"postmaster@{domain.name}")
    if not _CONTACT.fullmatch(values["Contact"]):
        raise OperationError("the Contact is a valid E-mail address")
    return Attributes(names, **{key.lower(): value for key, value in values.items()})


def _described(info: CertificateInfo) -> dict[str, Value]:
    return {
        "IssuedTo": dict(info.issued_to),
        "IssuedBy": dict(info.issued_by),
        "ValidFrom": info.valid_from.strftime("%Y-%m-%d %H:%M:%S UTC"),
        "ValidTill": info.valid_till.strftime("%Y-%m-%d %H:%M:%S UTC"),
        "Names": list(info.names),
        "Serial": str(info.serial),
    }
