"""Domains, accounts, groups, forwarders, aliases: names, the settings chain, rights, life cycle."""
