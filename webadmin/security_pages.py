"""The Domain Security page: key, certificate, chain of authorities (manual, chapter 8, Domain Security)."""

from __future__ import annotations

from starlette.responses import Response

from appliance.formats.data import Value
from appliance.kernel.certificates import KEY_KINDS
from appliance.kernel.operations import OperationError, Right
from appliance.objects.declarations import CERTIFICATE
from appliance.objects.security import ATTRIBUTES
from webadmin.domain_pages import DomainPages
from webadmin.site import Page


class SecurityPages:
    """One page for each domain, among its other ones."""

    def __init__(self, domains: DomainPages) -> None:
        self.domains = domains

    async def security(self, page: Page) -> Response:
        """Show what there is; each button is one operation."""
        domain = self.domains.domain_of(page)
        name, message, error, request = domain.name, "", "", ""
        attributes: dict[str, Value] = {
            key: page.field(f"subject.{key}").strip() for key in ATTRIBUTES if f"subject.{key}" in page.form
        } or {"Contact": f"postmaster@{name}"}
        if page.method == "POST":
            try:
                match page.action:
                    case "generate":
                        await page.perform("SetDomainPrivateKey", domainName=name, privateKey=page.field("kind"))
                    case "set-key":
                        await page.perform("SetDomainPrivateKey", domainName=name, privateKey=page.field("key"))
                    case "remove-key":
                        await page.perform("RemoveDomainPrivateKey", domainName=name)
                    case "self-sign":
                        await page.perform("SelfSignDomainCertificate", domainName=name, attributes=attributes)
                    case "request":
                        made = await page.perform("GetDomainCertificateRequest", domainName=name, attributes=attributes)
                        request = str(made)
                    case "set-certificate":
                        await page.perform("SetDomainCertificate", domainName=name, text=page.field("certificate"))
                    case "remove-certificate":
                        await page.perform("RemoveDomainCertificate", domainName=name)
                    case "set-chain":
                        await page.perform("SetDomainCertificateChain", domainName=name, text=page.field("chain"))
                    case "remove-chain":
                        await page.perform("SetDomainCertificateChain", domainName=name, text="")
                message = "" if request else "Updated."
            except OperationError as failure:
                error = failure.text
        state = await page.perform("GetDomainSecurity", domainName=name)
        return page.show(
            "security.html",
            title=f"{name}: Security",
            state=state,
            mode=domain.settings[CERTIFICATE],
            kinds=KEY_KINDS,
            attributes=ATTRIBUTES,
            names=[name, *domain.domain_aliases],
            given=attributes,
            request=request,
            may_change=page.may(Right.CERTIFICATE, name),
            message=message,
            error=error,
            tabs=self.domains.tabs(page, domain),
            status=400 if error else 200,
        )
