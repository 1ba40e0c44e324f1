"""Which addresses are public."""

import pytest

from server.fetching.addresses import is_public

PUBLIC = "93.184.216.34 8.8.8.8 1.1.1.1 2606:4700::1111 2a00:1450:4001:81b::200e"
REFUSED = {
    "this host": "0.0.0.0 0.1.2.3 127.0.0.1 127.8.9.1 :: ::1",
    "private": "10.0.0.1 172.16.0.1 172.31.255.255 192.168.1.1 fc00::1 fd00:ec2::254 fec0::1",
    "shared by a carrier": "100.64.0.1 100.100.100.200 100.127.255.255",
    "link": "169.254.169.254 169.254.0.1 fe80::1 fe80::1%eth0",
    "protocol assignments": "192.0.0.1 192.0.0.8 192.0.0.192 2001:2::1 2001:20::1",
    "documentation": "192.0.2.1 198.51.100.1 203.0.113.1 2001:db8::1 3fff::1",
    "benchmarks": "198.18.0.1 198.19.255.255",
    "multicast": "224.0.0.1 239.255.255.250 ff02::1 ff0e::1",
    "reserved": "240.0.0.1 255.255.255.255 4000::1 5f00::1",
    "a cloud's host": "168.63.129.16",
    "a relay": "192.88.99.1",
    "IPv4, mapped": "::ffff:127.0.0.1 ::ffff:8.8.8.8",
    "IPv4, compatible": "::127.0.0.1 ::a00:1",
    "IPv4, 6to4": "2002:7f00:1:: 2002:808:808::1",
    "IPv4, Teredo": "2001:0:53aa:64c:0:0:f5ff:fffe",
    "IPv4, NAT64": "64:ff9b::7f00:1 64:ff9b::808:808 64:ff9b:1::1",
}


@pytest.mark.parametrize("address", PUBLIC.split())
def test_a_public_address_is_dialled(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("kind", REFUSED)
def test_no_other_is(kind: str) -> None:
    assert [address for address in REFUSED[kind].split() if is_public(address)] == []
