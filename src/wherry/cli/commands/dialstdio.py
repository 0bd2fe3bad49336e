"""`system dial-stdio`: standard input and output are a connection to the engine. The far end of `ssh://`."""

from __future__ import annotations

from wherry.cli.pump import Pump
from wherry.client.connection import Connection

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.context import Context


def run(context: Context) -> int:
    connection = Connection(context.endpoint.host, context.endpoint.tls)
    try:
        Pump(connection.socket, b"", tty=True, stdin=True, keys=b"").run()
    finally:
        connection.close()
    return 0
