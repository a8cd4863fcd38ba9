#!/usr/bin/env python3
"""A name server for tests: name_server.py ADDRESS FILE

Answers over UDP what FILE says, whose lines are `ADDRESS NAME`; it is read for each question. Other
names do not exist, and no name has an IPv6 address. Prints `ready` when it can be asked.
"""
import pathlib
import socket
import struct
import sys

TYPE_A, CLASS_IN, TTL_S = 1, 1, 1
NO_ERROR, NO_SUCH_NAME = 0, 3


def read_name(question):
    """The name that `question` begins with, and where it ends."""
    labels, at = [], 0
    while question[at]:
        labels.append(question[at + 1:at + 1 + question[at]].decode())
        at += 1 + question[at]
    return ".".join(labels).lower(), at + 1


def answer(query, addresses):
    name, end = read_name(query[12:])
    question_type = struct.unpack_from("!H", query, 12 + end)[0]
    records = b""
    if name in addresses and question_type == TYPE_A:
        records = (b"\xc0\x0c" + struct.pack("!HHIH", TYPE_A, CLASS_IN, TTL_S, 4) +
                   socket.inet_aton(addresses[name]))
    code = NO_ERROR if name in addresses else NO_SUCH_NAME
    flags = 0x8180 | code  # an answer, recursion asked for and available
    head = query[:2] + struct.pack("!HHHHH", flags, 1, 1 if records else 0, 0, 0)
    return head + query[12:12 + end + 4] + records


def main():
    path = pathlib.Path(sys.argv[2])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as port:
        port.bind((sys.argv[1], 53))
        print("ready", flush=True)
        while True:
            query, client = port.recvfrom(4096)
            lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
            port.sendto(answer(query, {name: address for address, name in lines}), client)


if __name__ == "__main__":
    main()
