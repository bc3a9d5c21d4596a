"""A web server that misbehaves on purpose, for test_http.c: prints "PORT TLS_PORT" and serves until its standard input ends."""
import http.server, ssl, sys, threading, time

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        self.send_header("Content-Length", headers.pop("length", len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def handle_any(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = self.path
        if path == "/echo":
            seen = f"{self.command} {body.decode()} auth={self.headers.get('Authorization')} x={self.headers.get('X-Test')}"
            self.answer(200, seen.encode(), X_Answer="  yes ")
        elif path == "/big":
            self.answer(200, b"x" * 3000000)
        elif path == "/cut":
            self.answer(200, b"x" * 1000, length=5000)
            self.close_connection = True
        elif path == "/chunked":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n")
        elif path == "/cut-chunk":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"ff\r\nhello")
            self.close_connection = True
        elif path == "/stall":
            self.answer(200, b"first", length=100)
            self.wfile.flush()
            time.sleep(4)
            self.close_connection = True
        elif path.startswith("/status/"):
            self.answer(int(path[8:]), b"<p>it went\n wrong</p>")
        elif path == "/loop":
            self.answer(302, Location="/loop")
        elif path == "/away":
            self.answer(302, Location=f"http://localhost:{port}/echo")
        elif path == "/file":
            self.answer(302, Location="file:///etc/passwd")
        else:
            self.answer(404)

    do_GET = do_POST = do_PATCH = do_HEAD = do_DELETE = handle_any

class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass  # clients that hang up are what is tested

plain = Server(("127.0.0.1", 0), Handler)
port = plain.server_address[1]
secure = Server(("127.0.0.1", 0), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
secure.socket = context.wrap_socket(secure.socket, server_side=True)
for server in plain, secure:
    threading.Thread(target=server.serve_forever, daemon=True).start()
print(port, secure.server_address[1], flush=True)
sys.stdin.read()
