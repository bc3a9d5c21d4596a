#!/usr/bin/env python3
"""A TCP proxy that misbehaves when told to: proxy.py SERVER-PORT CERTIFICATE KEY, on the loopback address.

Prints "PORT CONTROL-PORT" and serves until its standard input ends. The control port takes one command a line and answers "ok COUNT", where COUNT
is how many connections were accepted so far:

  pass            carry everything; connections that were answered here (status) are closed
  cut             reset all connections there are; new ones are carried
  lose            the next bytes from a client are carried, what the server answers is not: the connection is reset instead. Once, then as pass
  freeze          carry nothing more on the connections there are, and keep them open; new ones are carried
  half            the same, but what clients send still reaches the server
  drip BYTES MS   towards clients so many bytes every so many milliseconds, on all connections
  handshake       new connections are reset when the client has said its first words; those there are are reset now
  status CODE [HEADER: VALUE]   speak TLS with CERTIFICATE and KEY, and answer each request with this; connections there are are reset
"""
import asyncio, socket, ssl, struct, sys

server_port, certificate, key = int(sys.argv[1]), sys.argv[2], sys.argv[3]
mode, arguments, accepted = "pass", [], 0
links = set()


def reset(writer):
    """RST instead of FIN."""
    sock = writer.get_extra_info("socket")
    if sock is not None:
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except OSError:
            pass
    writer.transport.abort()


class Link:
    """A connection of a client, and ours to the server."""

    def __init__(self, client):
        self.client, self.server = client, None
        self.frozen = self.deaf = self.losing = False
        self.own = False  # answered here

    def reset(self):
        links.discard(self)
        for w in (self.client, self.server):
            if w is not None:
                reset(w)

    async def carry(self, reader, writer, to_client):
        try:
            while data := await reader.read(65536):
                if self.frozen or (to_client and self.deaf):
                    continue
                if to_client and self.losing:
                    self.reset()
                    return
                if not to_client and mode == "lose" and not self.losing:
                    set_mode("pass")
                    self.losing = True
                while to_client and mode == "drip" and data:
                    size = int(arguments[0])
                    writer.write(data[:size])
                    await writer.drain()
                    data = data[size:]
                    await asyncio.sleep(int(arguments[1]) / 1000)
                writer.write(data)
                await writer.drain()
        except (OSError, asyncio.CancelledError):
            pass
        if not self.frozen and not self.deaf:
            links.discard(self)
            writer.close()


async def answer(reader, writer, link):
    """Every request of an HTTP/1.1 connection with the same status."""
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            for line in head.split("\r\n"):
                if line.startswith("content-length:"):
                    await reader.readexactly(int(line.split(":")[1]))
            body = b'{"kind":"Status","apiVersion":"v1","status":"Failure","message":"the proxy says no","code":%s}' % arguments[0].encode()
            extra = " ".join(arguments[1:])
            writer.write(f"HTTP/1.1 {arguments[0]} X\r\n{extra + chr(13) + chr(10) if extra else ''}Content-Type: application/json\r\n"
                         f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
            await writer.drain()
    except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        pass
    links.discard(link)
    writer.close()


async def accept(reader, writer):
    global accepted
    accepted += 1
    link = Link(writer)
    links.add(link)
    if mode == "handshake":
        await reader.read(1)
        link.reset()
        return
    if mode == "status":
        link.own = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        try:
            await writer.start_tls(context)
        except (OSError, ssl.SSLError):
            links.discard(link)
            return
        await answer(reader, writer, link)
        return
    try:
        from_server, link.server = await asyncio.open_connection("127.0.0.1", server_port)
    except OSError:
        link.reset()
        return
    await asyncio.gather(link.carry(reader, link.server, False), link.carry(from_server, writer, True))


def set_mode(name, *more):
    global mode, arguments
    mode, arguments = name, list(more)


async def control(reader, writer):
    while line := (await reader.readline()).decode().split():
        name, more = line[0], line[1:]
        here = list(links)
        if name == "pass":
            for link in here:
                if link.own:
                    link.reset()
        elif name in ("cut", "handshake", "status"):
            for link in here:
                link.reset()
        elif name == "freeze":
            for link in here:
                link.frozen = True
        elif name == "half":
            for link in here:
                link.deaf = True
        set_mode(name if name in ("lose", "drip", "handshake", "status") else "pass", *more)
        writer.write(f"ok {accepted}\n".encode())
        await writer.drain()
    writer.close()


async def main():
    servers = [await asyncio.start_server(f, "127.0.0.1", 0) for f in (accept, control)]
    print(*(s.sockets[0].getsockname()[1] for s in servers), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    sys.stdout.flush()
    import os
    os._exit(0)


asyncio.run(main())
