# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Whether a caller is on this machine, by an own name, and whether others can reach the service."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

import psutil
from fastapi import FastAPI
from starlette.requests import HTTPConnection

FORWARDING = ("forwarded", "x-forwarded-for", "x-real-ip", "via")


def is_local(connection: HTTPConnection) -> bool:
    """Whether the caller is on this machine: no proxy between, no page of another site.

    A browser sends a form's POST to any address, so a foreign page could reach a service on
    loopback: its Origin, or with a name that was made to point here its Host, gives it away.
    """
    if connection.client is None or not is_loopback(connection.client.host):
        return False
    if any(name in connection.headers for name in FORWARDING):
        return False
    host, origin = connection.headers.get("host", ""), connection.headers.get("origin")
    try:
        same_site = origin is None or urlsplit(origin).netloc == host
    except ValueError:
        return False
    return same_site and is_own_name(host)


def is_own_name(host: str, hosts: Collection[str] = ()) -> bool:
    """Whether the header Host names loopback or one of ``hosts``, with whatever port."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    return name in hosts or is_loopback(name)


def is_private(app: FastAPI) -> bool:
    """Whether this process listened on loopback alone when that was first asked for ``app``.

    Servers bind their addresses before the first request; to look takes longer than a call.
    """
    if not hasattr(app.state, "private"):
        app.state.private = all(
            is_loopback(socket.laddr.ip)
            for socket in psutil.Process().net_connections("tcp")
            if socket.status == psutil.CONN_LISTEN
        )
    return bool(app.state.private)


def is_loopback(host: str) -> bool:
    """Whether a name or an address is of this machine alone."""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    inner = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (inner or address).is_loopback
