"""Which IP addresses may be dialled: public ones alone, also where one address stands inside another."""

from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address

# what `is_global` admits: protocol assignments (in older Pythons), relays, a cloud's own host
_REFUSED_V4 = tuple(map(IPv4Network, ("192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32")))
# Teredo and its neighbours, 6to4, documentation
_REFUSED_V6 = tuple(map(IPv6Network, ("2001::/23", "2002::/16", "3fff::/20")))
_UNICAST = IPv6Network("2000::/3")  # outside are the private, the local, and those that carry an IPv4 address


def is_public(address: str) -> bool:
    """Whether an address, as a resolver gives it, is of a host that everybody may reach."""
    ip = ip_address(address)
    if not ip.is_global or ip.is_multicast or ip.is_reserved:
        return False
    if isinstance(ip, IPv6Address):
        return ip in _UNICAST and not any(ip in network for network in _REFUSED_V6)
    return not any(ip in network for network in _REFUSED_V4)
