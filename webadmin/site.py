"""What every page of the WebAdmin Interface stands on: authentication, realms, forms, rendering (manual, chapters 4 and 5).

A page is `async def page(request: Page) -> Response`; it acts only through operations, as the caller that logged in. Pages
work without JavaScript. A request that changes something must come from our own pages (Fetch Metadata, else Origin).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from time import time
from typing import Any
from urllib.parse import parse_qsl, quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from appliance.formats.data import Value
from appliance.kernel.channel import Channel
from appliance.kernel.operations import Caller, Denied, OperationError, Operations, Right
from webadmin import wording
from webadmin.static_files import StaticFiles

#: Bytes of a posted form: a Routing Table of 1 MiB, percent-encoded.
MAX_FORM = 4 << 20

Authenticate = Callable[[str, str, Channel, str], Awaitable[Caller]]
"""(name, password, channel, host name of the request) -> the caller. Raises `NotAuthenticated`."""


class NotAuthenticated(Exception):
    """Wrong name or password, or the account may not use the interface; `text` is for people."""

    def __init__(self, text: str = "") -> None:
        super().__init__(text)
        self.text = text


class NotFound(Exception):
    """There is no such page or object."""


@dataclass(frozen=True, slots=True)
class Realm:
    """A part of the interface behind one right."""

    name: str
    path: str
    rights: tuple[Right, ...]

    def open_to(self, caller: Caller) -> bool:
        return any(caller.has(right) for right in self.rights)


REALMS = (
    Realm("Settings", "/Settings/", (Right.SETTINGS,)),
    Realm("Accounts & Domains", "/Domains/", (Right.DOMAINS, Right.DOMAIN)),
    Realm("Directory", "/Directory/", (Right.DIRECTORY,)),
    Realm("Monitors", "/Monitors/", (Right.MONITOR,)),
)

#: Of every page.
HEADERS = {
    "Cache-Control": "no-cache, no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}


def environment() -> Environment:
    """Templates of the application directory; nothing that a user wrote is ever a template."""
    made = Environment(
        loader=PackageLoader("webadmin"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["path"] = lambda text: quote(str(text), safe="")
    made.filters["size"] = wording.size
    made.globals["columns"] = wording.COLUMNS
    made.globals["removal"] = wording.REMOVAL
    return made


class Page:
    """One request of a logged-in caller."""

    def __init__(self, site: Site, request: Request, caller: Caller, realm: Realm | None) -> None:
        self.site = site
        self.request = request
        self.caller = caller
        self.realm = realm
        self.form: dict[str, list[str]] = {}
        #: Seconds until a monitor looks again; 0: never.
        self.refresh = 0

    @property
    def method(self) -> str:
        return self.request.method

    def name(self, key: str) -> str:
        """A path parameter."""
        return str(self.request.path_params[key])

    def field(self, key: str, default: str = "") -> str:
        """The last value of a posted field."""
        return self.form.get(key, [default])[-1]

    def query(self, key: str, default: str = "") -> str:
        return self.request.query_params.get(key, default)

    @property
    def host(self) -> str:
        """The host name that was addressed, without its port."""
        return host_of(self.request)

    @property
    def action(self) -> str:
        """The button that was pressed; image buttons send `name.x` (manual, 62: buttons)."""
        for key in self.form:
            name = key.removesuffix(".x")
            if name.startswith("do-"):
                return name[3:]
        return ""

    async def perform(self, operation: str, **arguments: Any) -> Value | None:
        return await self.site.operations.perform(self.caller, operation, arguments)

    @property
    def message(self) -> str:
        """The message of the act before this page; only our own pages can send one."""
        message = self.query("message")
        referer = self.request.headers.get("referer", "").partition("://")[2].partition("/")[0]
        return message if message and referer == self.request.headers.get("host") else ""

    def render(self, template: str, **values: Any) -> str:
        return self.site.templates.get_template(template).render(
            page=self,
            caller=self.caller,
            realms=[realm for realm in REALMS if realm.open_to(self.caller)],
            realm=self.realm,
            here=self.request.url.path,
            style=self.site.style,
            **({"message": self.message, "error": "", "title": ""} | values),
        )

    def may(self, right: str, domain: str | None = None) -> bool:
        return self.caller.has(right, domain)

    def show(self, template: str, *, status: int = 200, **values: Any) -> Response:
        return HTMLResponse(self.render(template, **values), status, HEADERS)

    def go(self, path: str, message: str = "") -> Response:
        """See another page after an act; `message` is shown there once."""
        target = f"{path}?message={quote(message)}" if message else path
        return RedirectResponse(target, 303, {"Cache-Control": "no-store"})


Handler = Callable[[Page], Awaitable[Response]]


class Site:
    """Runs handlers behind authentication."""

    def __init__(self, operations: Operations, authenticate: Authenticate) -> None:
        self.operations = operations
        self.authenticate = authenticate
        self.templates = environment()
        self.static = StaticFiles(time())
        self.style = self.static.path("style.css")
        #: Asked before each page.
        self.prepare: Callable[[Page], Awaitable[None]] = _nothing

    def endpoint(
        self, handler: Handler, realm: Realm | None = None, methods: Sequence[str] = ("GET", "POST")
    ) -> Callable[[Request], Awaitable[Response]]:
        """The ASGI endpoint of a page that takes these methods."""
        allowed = ", ".join([*methods, "HEAD", "OPTIONS"])

        async def endpoint(request: Request) -> Response:
            if request.method == "OPTIONS":
                return Response(status_code=204, headers={"Allow": allowed})
            try:
                caller = await self._caller(request)
            except NotAuthenticated as error:
                return self._unauthorized(realm, error.text)
            if realm is not None and not realm.open_to(caller):
                return self._unauthorized(realm, "Your account does not have the right for these pages.")
            page = Page(self, request, caller, realm)
            if request.method == "POST":
                if not _same_origin(request):
                    return page.show(
                        "error.html", status=403, title="Refused", error="The request came from another site."
                    )
                try:
                    page.form = await _read_form(request)
                except ValueError as error:
                    return page.show("error.html", status=413, title="Refused", error=str(error))
                except ClientDisconnect:  # a browser that was stopped while it sent: nobody hears the answer
                    return Response(status_code=400)
            try:
                await self.prepare(page)
                return await handler(page)
            except NotFound as error:
                return page.show(
                    "error.html", status=404, title="Not found", error=str(error) or "There is no such page."
                )
            except Denied as error:
                return page.show("error.html", status=403, title="Not allowed", error=error.text)
            except OperationError as error:
                return page.show("error.html", status=400, title="Not done", error=error.text)

        return endpoint

    async def _caller(self, request: Request) -> Caller:
        scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "basic":
            raise NotAuthenticated
        try:
            text = base64.b64decode(credentials.strip(), validate=True).decode("utf-8")
        except (binascii.Error, UnicodeDecodeError):
            raise NotAuthenticated from None
        name, colon, password = text.partition(":")
        if not colon or not name:
            raise NotAuthenticated
        return await self.authenticate(name, password, request.scope["channel"], host_of(request))

    def _unauthorized(self, realm: Realm | None, text: str) -> Response:
        name = realm.name if realm is not None else "WebAdmin"
        body = self.templates.get_template("unauthorized.html").render(text=text, style=self.style)
        headers = {**HEADERS, "WWW-Authenticate": f'Basic realm="{name}", charset="UTF-8"'}
        return HTMLResponse(body, 401, headers)


async def _nothing(page: Page) -> None:
    del page


def host_of(request: Request) -> str:
    """The name in the Host field, in lower case; an IPv6 address keeps its brackets."""
    name, _, port = request.headers.get("host", "").rpartition(":")
    return (name if name and port.isdigit() else f"{name}:{port}" if name else port).lower()


def _same_origin(request: Request) -> bool:
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = request.headers.get("origin")
    if origin is None:
        # Scripts send neither; a browser sends at least one with a POST.
        return True
    return origin.partition("://")[2] == request.headers.get("host", "")


async def _read_form(request: Request) -> dict[str, list[str]]:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() == "multipart/form-data":
        raise ValueError("This page takes no files.")
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > MAX_FORM:
            raise ValueError("The form is too large.")
    form: dict[str, list[str]] = {}
    try:
        pairs = parse_qsl(
            data.decode("ascii", "replace"), keep_blank_values=True, max_num_fields=50_000, errors="replace"
        )
    except ValueError:
        raise ValueError("The form has too many fields.") from None
    for key, value in pairs:
        form.setdefault(key, []).append(value.replace("\0", ""))
    return form


def texts(value: Value | None) -> list[str]:
    """An operation's answer as a list of strings."""
    return [str(item) for item in value] if isinstance(value, (list, dict)) else []


def table(value: Value | None) -> list[Mapping[str, Value]]:
    """An operation's answer as a list of dictionaries."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def matching(names: Sequence[str], filter_text: str, limit: int) -> tuple[list[str], int]:
    """Names that contain the filter, at most `limit`, and how many there are in all."""
    found = [name for name in names if filter_text.lower() in name.lower()] if filter_text else list(names)
    return found[:limit], len(found)
