"""A slow link: passes a TCP port on to another of the same address and keeps everything a while, both ways.

    python slow.py ADDRESS PORT TARGET_PORT MILLISECONDS

Each way takes half the milliseconds; how much passes in a second is not limited.
"""

import asyncio
import sys
from contextlib import suppress

CHUNK = 65536


async def carry(source: asyncio.StreamReader, target: asyncio.StreamWriter, seconds: float) -> None:
    """Pass bytes on, each so many seconds after it came, and then the end."""
    loop = asyncio.get_running_loop()
    # Bounded, so that a source that is quicker than its target has to wait.
    under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(maxsize=256)

    async def deliver() -> None:
        while True:
            due, data = await under_way.get()
            await asyncio.sleep(max(0.0, due - loop.time()))
            if not data:
                break
            target.write(data)
            await target.drain()
        target.write_eof()

    delivery = asyncio.create_task(deliver())
    with suppress(ConnectionError):
        while data := await source.read(CHUNK):
            await under_way.put((loop.time() + seconds, data))
    await under_way.put((loop.time() + seconds, b""))
    with suppress(ConnectionError, OSError):
        await delivery


async def serve(address: str, port: int, target_port: int, seconds: float) -> None:
    """Listen for ever."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            inner_reader, inner_writer = await asyncio.open_connection(address, target_port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(carry(reader, inner_writer, seconds), carry(inner_reader, writer, seconds))
        inner_writer.close()
        writer.close()

    server = await asyncio.start_server(connected, address, port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]) / 2000))
