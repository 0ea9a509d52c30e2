"""Files of the pages that are the same for everybody: read once, with validators for conditional requests (RFC 9110, 13)."""

from __future__ import annotations

import hashlib
from email.utils import formatdate, parsedate_to_datetime
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response

_TYPES = {"style.css": "text/css; charset=utf-8"}


class StaticFiles:
    """All of them, in memory. `modified` is the time since when they are so, seconds since 1970."""

    def __init__(self, modified: float) -> None:
        self._modified = int(modified)
        self._files = {name: files("webadmin").joinpath("static", name).read_bytes() for name in _TYPES}
        self._tags = {name: f'"{hashlib.sha256(data).hexdigest()[:16]}"' for name, data in self._files.items()}

    def path(self, name: str) -> str:
        """The path for a page: another version has another one, so that a browser may keep each."""
        tag = self._tags[name].strip('"')
        return f"/static/{name}?v={tag[:8]}"

    async def endpoint(self, request: Request) -> Response:
        name = request.path_params["name"]
        data = self._files.get(name)
        if data is None:
            return Response("Not found", 404, media_type="text/plain")
        headers = {
            "Content-Type": _TYPES[name],
            "Cache-Control": "max-age=86400",
            "ETag": self._tags[name],
            "Last-Modified": formatdate(self._modified, usegmt=True),
            "X-Content-Type-Options": "nosniff",
        }
        if self._unchanged(request, name):
            return Response(status_code=304, headers=headers)
        return Response(data, headers=headers)

    def _unchanged(self, request: Request, name: str) -> bool:
        known = request.headers.get("if-none-match")
        if known is not None:
            return known.strip() == "*" or self._tags[name] in [
                tag.strip().removeprefix("W/") for tag in known.split(",")
            ]
        since = request.headers.get("if-modified-since")
        if since is None:
            return False
        try:
            return parsedate_to_datetime(since).timestamp() >= self._modified
        except (ValueError, OverflowError):
            return False
