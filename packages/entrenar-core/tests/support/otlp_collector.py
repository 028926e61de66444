"""A collector on loopback that keeps what it is sent, and a reader of OTLP's messages that knows
nothing of ours: the numbers of the fields are those of opentelemetry-proto."""

import gzip
import socket
import struct
import threading
from collections import defaultdict
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ATTRIBUTE = {
    1: ("key", "text"),
    2: ("value", {1: ("text", "text"), 2: ("bool", "int"), 3: ("int", "int"), 4: ("double", "<d")}),
}
SCOPE = {1: ("name", "text"), 2: ("version", "text")}
RESOURCE = {1: ("attributes", ATTRIBUTE)}
LINK = {1: ("trace_id", "bytes"), 2: ("span_id", "bytes")}
SPAN = {
    1: ("trace_id", "bytes"),
    2: ("span_id", "bytes"),
    4: ("parent_span_id", "bytes"),
    5: ("name", "text"),
    6: ("kind", "int"),
    7: ("start", "<Q"),
    8: ("end", "<Q"),
    9: ("attributes", ATTRIBUTE),
    13: ("links", LINK),
    15: ("status", {2: ("message", "text"), 3: ("code", "int")}),
}
TRACES = {
    1: ("resources", {
        1: ("resource", RESOURCE),
        2: ("scopes", {1: ("scope", SCOPE), 2: ("spans", SPAN)}),
    }),
}  # fmt: skip
POINT = {
    2: ("start", "<Q"),
    3: ("time", "<Q"),
    4: ("double", "<d"),
    6: ("int", "<q"),
    7: ("attributes", ATTRIBUTE),
}
METRIC = {
    1: ("name", "text"),
    2: ("description", "text"),
    3: ("unit", "text"),
    5: ("gauge", {1: ("points", POINT)}),
    7: ("sum", {1: ("points", POINT), 2: ("temporality", "int"), 3: ("monotonic", "int")}),
}
METRICS = {
    1: ("resources", {
        1: ("resource", RESOURCE),
        2: ("scopes", {1: ("scope", SCOPE), 2: ("metrics", METRIC)}),
    }),
}  # fmt: skip


def decoded(content, schema):
    """A message as a dictionary of lists; an unknown field is a KeyError."""
    found, place = defaultdict(list), 0
    while place < len(content):
        tag, place = number(content, place)
        name, kind = schema[tag >> 3]
        if tag & 7 == 0:
            value, place = number(content, place)
            assert kind == "int"
        elif tag & 7 == 1:
            (value,), place = struct.unpack_from(kind, content, place), place + 8
        else:
            assert tag & 7 == 2
            size, place = number(content, place)
            value, place = content[place : place + size], place + size
            assert len(value) == size
            if kind != "bytes":
                value = value.decode() if kind == "text" else decoded(value, kind)
        found[name].append(value)
    return dict(found)


def number(content, place):
    value = shift = 0
    while True:
        value |= (content[place] & 127) << shift
        shift, place = shift + 7, place + 1
        if content[place - 1] < 128:
            return value, place


def attributes(message):
    """Those of a span, a point or a resource."""
    found = {}
    for each in message.get("attributes", []):
        ((_, (value,)),) = each["value"][0].items()
        found[each["key"][0]] = value
    return found


class Collector(ThreadingHTTPServer):
    """`answer(handler)` answers a request, whose body has been read; 200 and nothing by default."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, answer=None):
        self.requests, self.bodies = [], []
        self.answer = answer or (lambda handler: handler.reply(200))
        super().__init__(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request, client_address):
        pass

    def __enter__(self):
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()

    def messages(self, signal):
        """The bodies that came to /v1/`signal`."""
        return [body for path, body in self.bodies if path == f"/v1/{signal}"]

    def spans(self):
        found = [decoded(body, TRACES)["resources"] for body in self.messages("traces")]
        return [
            span for (one,) in found for scope in one["scopes"] for span in scope.get("spans", [])
        ]

    def points(self):
        """Of each metric, by name: pairs of attributes and value, in their order."""
        found = defaultdict(list)
        for body in self.messages("metrics"):
            for metric in decoded(body, METRICS)["resources"][0]["scopes"][0]["metrics"]:
                (of,) = metric.get("gauge", []) + metric.get("sum", [])
                for point in of["points"]:
                    (value,) = point.get("double", []) + point.get("int", [])
                    found[metric["name"][0]].append((attributes(point), value))
        return dict(found)

    def resources(self):
        """Who sent each of the messages with traces."""
        found = [decoded(body, TRACES)["resources"] for body in self.messages("traces")]
        return [one["resource"][0] for (one,) in found]

    def resource(self):
        return attributes(self.resources()[0])


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers["Content-Encoding"] == "gzip":
            body = gzip.decompress(body)
        self.body = body
        self.server.requests.append(self)
        self.server.answer(self)

    def reply(self, status, body=b"", **headers):
        if status == 200:  # others do not keep what they were sent
            self.server.bodies.append((self.path, self.body))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextmanager
def listening(serve):
    """An address whose connections, after the request, are given to `serve`."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def work():
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=serving, args=(connection,), daemon=True).start()

        def serving(connection):
            with connection, suppress(OSError):  # the other side may go away
                connection.recv(65536)
                serve(connection)

        threading.Thread(target=work, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
