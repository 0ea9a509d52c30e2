"""All administrative operations of this room, for the wiring."""

from __future__ import annotations

from appliance.kernel.operations import Operations
from appliance.objects import account_operations, domain_operations, group_operations
from appliance.objects.domains import Domains


def declare(domains: Domains, operations: Operations) -> None:
    """Declare the operations on accounts, groups, forwarders and domains."""
    account_operations.declare(domains, operations)
    group_operations.declare(domains, operations)
    domain_operations.declare(domains, operations)
