"""What this program is called and which version of it runs."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as _version

try:
    VERSION = _version("pillarbox")
except PackageNotFoundError:
    VERSION = "0.1.0"
