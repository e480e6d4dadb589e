"""Processes that share a port, and those who call it. Python, since a test makes tens of thousands of connections, and Node takes more than
twice as long for each:

    fan.py serve PORT [ADDRESS]      answers each connection, and each datagram, with its port
    fan.py call                      for each line of its input, tcp|udp ADDRESS PORT COUNT [SOURCE], as many connections, each from an address of its own, from
                                     SOURCE on; prints who answered how many, and what failed
    fan.py load ADDRESS PORT SOURCE  one connection after the other until its input ends; prints the same
"""

import collections
import ipaddress
import json
import selectors
import socket
import struct
import sys

AT_A_TIME = 50
# A connection that is reset leaves no TIME_WAIT: there are tens of thousands.
RESET = struct.pack("ii", 1, 0)
PATIENCE = 60


def family_of(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def serve(port, address):
    """Both sockets of all addresses, of either family, if there is none."""
    answer = f"{port}\n".encode()
    ready = selectors.DefaultSelector()
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        one = socket.socket(family_of(address), kind)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if one.family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        one.bind((address, port))
        one.setblocking(False)
        if kind == socket.SOCK_STREAM:
            one.listen(4096)
        ready.register(one, selectors.EVENT_READ)
    print(f"listening at {port}", flush=True)
    while True:
        for key, _ in ready.select():
            one = key.fileobj
            try:
                while True:
                    if one.type == socket.SOCK_DGRAM:
                        _, whom = one.recvfrom(64)
                        one.sendto(answer, whom)
                        continue
                    connection, _ = one.accept()
                    with connection:
                        connection.send(answer)
            except OSError:
                pass  # Nobody is left, or whoever called has gone.


def address_from(first, i):
    """The i-th address from the first on."""
    return str(ipaddress.ip_address(first) + 1 + i)


class Tally:
    def __init__(self):
        self.by = collections.Counter()
        self.failed = collections.Counter()

    def call(self, kind, to, sources):
        """One call from each source (None: whichever the kernel takes), all of them on their way before the first answer is read."""
        calls = [self._begin(kind, to, source) for source in sources]
        for one in calls:
            with one:
                self._read(one)

    def _begin(self, kind, to, source):
        one = socket.socket(family_of(to[0]), kind)
        if source is not None:
            one.bind((source, 0))
        one.setblocking(False)
        one.connect_ex(to)
        if kind == socket.SOCK_DGRAM:
            one.send(b"who")
        else:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        one.settimeout(PATIENCE)
        return one

    def _read(self, one):
        try:
            answer = one.recv(64).decode().strip()
        except OSError as error:
            self.failed[type(error).__name__] += 1
            return
        if answer:
            self.by[answer] += 1
        else:
            self.failed["closed"] += 1

    def print(self):
        print(json.dumps({"by": self.by, "failed": self.failed}), flush=True)


def calls():
    for line in sys.stdin:
        protocol, host, port, count, *source = line.split()
        kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
        tally = Tally()
        every = [address_from(source[0], i) if source else None for i in range(int(count))]
        for first in range(0, len(every), AT_A_TIME):
            tally.call(kind, (host, int(port)), every[first : first + AT_A_TIME])
        tally.print()


def load(host, port, source):
    tally = Tally()
    over = selectors.DefaultSelector()
    over.register(sys.stdin, selectors.EVENT_READ)
    print("calling", flush=True)
    i = 0
    while not over.select(0):
        tally.call(socket.SOCK_STREAM, (host, port), [address_from(source, (8 * i + k) % 8000) for k in range(8)])
        i += 1
    tally.print()


verb, *words = sys.argv[1:]
if verb == "serve":
    serve(int(words[0]), words[1] if len(words) > 1 and words[1] else "::")
elif verb == "call":
    calls()
elif verb == "load":
    load(words[0], int(words[1]), words[2])
