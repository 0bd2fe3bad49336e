"""Networks: the default bridge, those of users, `none` and `host`, and every container's place in them."""

from wherry.engine.networks.attachments import Activation, Attachments
from wherry.engine.networks.host_bridges import BRIDGES, clean_host
from wherry.engine.networks.service import Networks

__all__ = ["BRIDGES", "Activation", "Attachments", "Networks", "clean_host"]
