"""FastStream's broker on the bus, for the services that are FastStream applications."""

import logging

from faststream.nats import NatsBroker
from faststream.security import SASLPlaintext

from services.runtime import bus
from services.runtime.settings import NatsSettings


def make_broker(settings: NatsSettings, name: str, log: logging.Logger) -> NatsBroker:
    """A broker that connects as `bus.connect` does; it takes user and password in a form of its own."""
    options = bus.connect_options(settings, name)
    user, password = options.pop("user", ""), options.pop("password", "")
    security = SASLPlaintext(username=user, password=password, use_ssl=False) if user else None
    return NatsBroker(logger=log, log_level=logging.DEBUG, security=security, **options)
