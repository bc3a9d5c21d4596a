#!/usr/bin/python3
"""A front of the cloud: one port for all services, as a load balancer has it, that does what a test asks of it.

  front.py PORT NAME=URL...      /NAME/x is passed on to URL/x; with FRONT_CERT and FRONT_KEY (PEM files) by https

  POST /_faults {...}   one fault more; DELETE /_faults takes all away, DELETE /_faults/NAME those with this "name"; GET /_faults shows them with
                        their hits
  GET /_log             the requests so far, a line each: METHOD PATH STATUS; DELETE /_log forgets them

Faults, each with "method" and "path" (regular expressions; default: all), "skip" (so many matches pass first), "count" (so often; default: for ever):
  {"kind": "kill", "pid": N, "when": "before" | "after"}   kills the client before the request is passed on, or when it was answered
  {"kind": "status", "status": 413, "body": "..."}         answers by itself
  {"kind": "lost"}                                         passes the request on, and the connection breaks instead of an answer
  {"kind": "cut", "after": BYTES}                          breaks the connection in the middle of the answer
  {"kind": "flip", "at": BYTE}                             changes a byte of the answer
  {"kind": "noranges"}                                     passes the request on without its range
  {"kind": "page", "limit": N}                             asks for pages of so many
  {"kind": "slow", "bps": N}                               sends the answer at so many bytes a second, until the fault is taken away
"""
import http.client
import json
import os
import re
import signal
import socket
import ssl
import sys
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TARGETS = dict(a.split('=', 1) for a in sys.argv[2:])
LOCK = threading.Lock()
FAULTS, LOG = [], []
PIECE = 65536


def matching(method, path):
    """The faults that this request meets."""
    found = []
    with LOCK:
        for f in FAULTS:
            if not re.fullmatch(f.get('method', '.*'), method) or not re.search(f.get('path', ''), path):
                continue
            f['seen'] = f.get('seen', 0) + 1
            if f['seen'] <= f.get('skip', 0) or f.get('hits', 0) >= f.get('count', 1 << 60):
                continue
            f['hits'] = f.get('hits', 0) + 1
            found.append(f)
    return {f['kind']: f for f in found}


class Front(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    disable_nagle_algorithm = True

    def log_message(self, *args):
        pass

    def answer(self, status, body, content_type='application/json'):
        body = body if isinstance(body, bytes) else body.encode()
        self.send_response(status)
        self.send_header('Content-Type', content_type)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def own(self, body):
        which, _, name = self.path[2:].partition('/')
        kept = FAULTS if which == 'faults' else LOG
        with LOCK:
            if self.command == 'POST':
                kept.append(json.loads(body))
            elif self.command == 'DELETE':
                kept[:] = [f for f in kept if f.get('name') != name] if name else []
            text = json.dumps(kept) if kept is FAULTS else '\n'.join(kept) + '\n'
        self.answer(200, text)

    def break_off(self):
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def any(self):
        body = self.rfile.read(int(self.headers.get('Content-Length') or 0))
        if self.path.startswith('/_'):
            return self.own(body)
        faults = matching(self.command, self.path)
        try:
            status = self.pass_on(body, faults)
        except (ConnectionError, http.client.HTTPException, OSError):
            status = 502
            try:
                self.answer(502, '{"error": {"message": "no service behind this"}}')
            except OSError:
                pass
        with LOCK:
            LOG.append('%s %s %s' % (self.command, self.path, status))
        return None

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = any

    def pass_on(self, body, faults):
        if 'kill' in faults and faults['kill'].get('when') != 'after':
            os.kill(faults['kill']['pid'], signal.SIGKILL)
            self.break_off()
            return 'killed'
        if 'status' in faults:
            self.answer(faults['status']['status'], faults['status'].get('body', '{}'))
            return faults['status']['status']
        name, rest = (self.path[1:].split('/', 1) + [''])[:2]
        base = urllib.parse.urlsplit(TARGETS[name])
        path = base.path + '/' + rest
        if 'page' in faults:
            path = re.sub(r'\blimit=\d+', 'limit=%d' % faults['page']['limit'], path)
        headers = {k: v for k, v in self.headers.items() if k.lower() not in ('host', 'connection')}
        if 'noranges' in faults:
            headers = {k: v for k, v in headers.items() if k.lower() != 'range'}
        c = http.client.HTTPConnection(base.hostname, base.port, timeout=120)
        c.request(self.command, path, body or None, headers)
        r = c.getresponse()
        if 'kill' in faults or 'lost' in faults:
            r.read()
            if 'kill' in faults:
                os.kill(faults['kill']['pid'], signal.SIGKILL)
            self.break_off()
            return 'lost after %d' % r.status
        self.send_response(r.status)
        length = r.getheader('Content-Length')
        for k, v in r.getheaders():
            if k.lower() not in ('transfer-encoding', 'connection', 'server', 'date'):
                self.send_header(k, v)
        if length is None:
            self.send_header('Connection', 'close')
            self.close_connection = True
        self.end_headers()
        self.body_of(r, faults)
        return r.status

    def body_of(self, r, faults):
        sent = 0
        while self.command != 'HEAD':
            piece = r.read(PIECE)
            if not piece:
                return
            if 'flip' in faults and sent <= faults['flip']['at'] < sent + len(piece):
                at = faults['flip']['at'] - sent
                piece = piece[:at] + bytes([piece[at] ^ 1]) + piece[at + 1:]
            if 'cut' in faults and sent + len(piece) > faults['cut']['after']:
                self.wfile.write(piece[:faults['cut']['after'] - sent])
                self.break_off()
                return
            self.wfile.write(piece)
            sent += len(piece)
            end = time.monotonic() + len(piece) / faults['slow']['bps'] if 'slow' in faults else 0
            while time.monotonic() < end and any(f is faults['slow'] for f in FAULTS):
                time.sleep(min(0.02, max(0, end - time.monotonic())))


ThreadingHTTPServer.daemon_threads = True
ThreadingHTTPServer.request_queue_size = 64
server = ThreadingHTTPServer(('127.0.0.1', int(sys.argv[1])), Front)
if os.environ.get('FRONT_CERT'):
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(os.environ['FRONT_CERT'], os.environ['FRONT_KEY'])
    server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
server.serve_forever()
