"""How a server that listens on loopback only is reached from the other containers of a laptop.

``python -m infra.forward 9000 9001`` takes connections on port 9000 of every address of this
container and passes their bytes, unread, to 127.0.0.1:9001. The S3 server stays on loopback,
because the servers behind it have no authentication; its own door, which has, is opened so.
"""

import asyncio
import sys
from contextlib import suppress

PIECE = 1 << 16


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while piece := await reader.read(PIECE):
            writer.write(piece)
            await writer.drain()
    with suppress(OSError):
        writer.write_eof()


async def serve(port: int, to: int, host: str) -> None:
    """Until it is told to stop."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", to)
        except OSError:  # not up yet: the client sees a closed connection and tries again
            writer.close()
            return
        try:
            await asyncio.gather(_pump(reader, inner_writer), _pump(inner_reader, writer))
        finally:
            inner_writer.close()
            writer.close()

    async with await asyncio.start_server(connected, host, port) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2]), *(sys.argv[3:] or ["0.0.0.0"])))
