"""Ends of TCP connections, led by hand: each line on standard input is a JSON list, the peer's number, a command and its arguments;
each answer is a JSON line, {"peer": ..., "ok": ...} or {"peer": ..., "error": ...}. test/lab/peer.ts says what the commands do. A peer
that waits keeps no other from its work.
"""
import errno
import hashlib
import json
import queue
import select
import socket
import struct
import sys
import threading

TCP_REPAIR, TCP_REPAIR_QUEUE, TCP_QUEUE_SEQ = 19, 20, 21  # tcp(7) has none of them: include/uapi/linux/tcp.h
RECEIVE_QUEUE, SEND_QUEUE = 1, 2
REPAIR_OFF_NO_WINDOW_PROBE = -1
PATIENCE = 45

output = threading.Lock()


def pattern(count):
    return b"".join(b"%015d\n" % i for i in range(count // 16))


class Peer(threading.Thread):
    def __init__(self, number):
        super().__init__(daemon=True)
        self.number = number
        self.commands = queue.SimpleQueue()
        self.listener = self.connection = None

    def run(self):
        while True:
            name, *arguments = self.commands.get()
            try:
                answer = {"peer": self.number, "ok": getattr(self, name)(*arguments)}
            except OSError as error:
                answer = {"peer": self.number, "error": errno.errorcode.get(error.errno, str(error)) if error.errno else str(error)}
            with output:
                print(json.dumps(answer), flush=True)

    def option(self, name, value, level=socket.IPPROTO_TCP):
        self.connection.setsockopt(level, name, value)

    def listen(self, port):
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 16)
        self.listener.bind(("0.0.0.0", port))
        self.listener.listen(16)
        self.listener.settimeout(PATIENCE)

    def accept(self):
        self.connection, (host, port) = self.listener.accept()
        self.connection.settimeout(PATIENCE)
        self.option(socket.TCP_NODELAY, 1)
        return [host, port]

    def unconnected(self, local, isn):
        self.connection = socket.socket()
        self.connection.settimeout(PATIENCE)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self.option(socket.TCP_NODELAY, 1)
        self.connection.bind(("0.0.0.0", local))
        if isn is not None:
            self.option(TCP_REPAIR, 1)
            self.option(TCP_REPAIR_QUEUE, SEND_QUEUE)
            self.option(TCP_QUEUE_SEQ, isn - (isn >> 31 << 32))  # a signed int
            self.option(TCP_REPAIR, 0)

    def connect(self, host, port, local, isn):
        self.unconnected(local, isn)
        self.connection.connect((host, port))

    def fast_open(self, host, port, local, text):
        self.unconnected(local, None)
        self.connection.settimeout(None)  # without blocking, nothing of the text is kept where no cookie is known
        self.connection.sendto(text.encode(), socket.MSG_FASTOPEN, (host, port))
        self.connection.settimeout(PATIENCE)

    def send(self, text):
        self.connection.sendall(text.encode())

    def urgent(self, text):
        self.connection.send(text.encode(), socket.MSG_OOB)

    def receive_urgent(self):
        select.select([], [], [self.connection], PATIENCE)
        return self.connection.recv(1, socket.MSG_OOB).decode()

    def fill(self, limit):
        self.connection.setblocking(False)
        sent = 0
        try:
            while sent < limit:
                sent += self.connection.send(bytes(min(65536, limit - sent)))
        except BlockingIOError:
            pass
        self.connection.settimeout(PATIENCE)
        return sent

    def receive(self, count):
        data = b""
        while len(data) < count:
            piece = self.connection.recv(count - len(data))
            if not piece:
                break
            data += piece
        return data.decode()

    def rest(self):
        data = b""
        while piece := self.connection.recv(65536):
            data += piece
        return data.decode()

    def send_pattern(self, count):
        self.connection.sendall(pattern(count))

    def receive_pattern(self, count):
        digest, left = hashlib.sha256(), count
        while left > 0 and (piece := self.connection.recv(min(left, 1 << 20))):
            digest.update(piece)
            left -= len(piece)
        return digest.digest() == hashlib.sha256(pattern(count)).digest()

    def end(self):
        self.connection.shutdown(socket.SHUT_WR)

    def close(self):
        self.connection.close()

    def finish(self, text):
        self.connection.sendall(text.encode())
        self.connection.close()

    def reset(self):
        self.option(socket.SO_LINGER, struct.pack("ii", 1, 0), socket.SOL_SOCKET)
        self.connection.close()

    def vanish(self):
        self.option(TCP_REPAIR, 1)
        self.connection.close()

    def sequences(self):
        self.option(TCP_REPAIR, 1)
        numbers = []
        for queue in (SEND_QUEUE, RECEIVE_QUEUE):
            self.option(TCP_REPAIR_QUEUE, queue)
            numbers.append(self.connection.getsockopt(socket.IPPROTO_TCP, TCP_QUEUE_SEQ) & 0xFFFFFFFF)
        self.option(TCP_REPAIR, REPAIR_OFF_NO_WINDOW_PROBE)
        return numbers

    def keep_alive(self, seconds):
        self.option(socket.SO_KEEPALIVE, 1, socket.SOL_SOCKET)
        self.option(socket.TCP_KEEPIDLE, seconds)
        self.option(socket.TCP_KEEPINTVL, seconds)


peers = {}
print("ready", flush=True)
for line in sys.stdin:
    number, *command = json.loads(line)
    if number not in peers:
        peers[number] = Peer(number)
        peers[number].start()
    peers[number].commands.put(command)
