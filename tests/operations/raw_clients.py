"""Clients that libraries do not let one be: who reads a little now and then, or vanishes in mid-stream."""
import contextlib
import json
import select
import socket
import struct

PATIENCE_S = 60
SMALL_BUFFER_BYTES = 4096  # of the kernel, so that a reader who stops is soon felt at the other end


def address_of(target):
    host, port = target.rsplit(":", 1)
    return host, int(port)


@contextlib.contextmanager
def connection(target, receive_bytes=0):
    """A TCP connection that is closed in the end, whatever is still in it."""
    with socket.socket() as made:
        if receive_bytes:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.settimeout(PATIENCE_S)
        made.connect(address_of(target))
        yield made


def reset(made):
    """Ends the connection as a client does that crashed: RST, and nothing that waits is sent."""
    made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    made.close()


def sip(made, num_bytes):
    """Reads what is there, up to so many bytes. False once the server has ended the connection."""
    if not select.select([made], [], [], 0)[0]:
        return True
    try:
        return made.recv(num_bytes) != b""
    except ConnectionError:
        return False


def http_request(target, path, key, body):
    """The bytes of a POST; a GET without a body."""
    content = b"" if body is None else json.dumps(body).encode()
    head = [f"{'GET' if body is None else 'POST'} {path} HTTP/1.1", f"Host: {target}",
            f"Authorization: Bearer {key}"]
    if body is not None:
        head += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + content


# HTTP/2 (RFC 9113): frame types, flags, the one setting that is used.
DATA, HEADERS, SETTINGS, WINDOW_UPDATE = 0, 1, 4, 8
END_STREAM, END_HEADERS = 1, 4
INITIAL_WINDOW_SIZE = 4
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind, flags, stream, payload):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def literal(name, value):
    """A header without compression (RFC 7541, 6.2.2). Names and values below 127 bytes."""
    return b"\0" + b"".join(bytes([len(part)]) + part.encode() for part in (name, value))


def grpc_call(target, method, key, message, window_bytes):
    """The bytes of a whole call whose answer may be `window_bytes` long, until more are allowed."""
    headers = {":method": "POST", ":scheme": "http", ":path": method, ":authority": target,
               "te": "trailers", "content-type": "application/grpc",
               "authorization": f"Bearer {key}"}
    settings = struct.pack(">HI", INITIAL_WINDOW_SIZE, window_bytes)
    return (PREFACE + frame(SETTINGS, 0, 0, settings) +
            frame(HEADERS, END_HEADERS, 1, b"".join(literal(*item) for item in headers.items())) +
            frame(DATA, END_STREAM, 1, struct.pack(">BI", 0, len(message)) + message))


def more_window(num_bytes):
    """Allows the call's answer so much more."""
    return frame(WINDOW_UPDATE, 0, 1, struct.pack(">I", num_bytes))
