"""UDP from inside a namespace.

    udp.py serve NAME PORT ADDRESS
                             answers each datagram: `who` with NAME, `segments COUNT BYTES` with so many datagrams of so many bytes in one
                             super-packet (udp(7), UDP_SEGMENT), each beginning with its number; anything else with itself. What begins
                             as a message of syslog's (<13>) is not answered but printed: NAME got <13>…
    udp.py talk              sockets that are kept, led by lines of standard input, a JSON list each: number, address, port, text, least
                             answers. Sends the text once a second until so many different datagrams have come back, and prints them as a
                             JSON list, sorted; with 0, once, and prints an empty one. A first look throws away what an earlier text brought
"""
import json
import select
import socket
import sys
import time

UDP_SEGMENT = 103  # linux/udp.h
PATIENCE = 60


def serve(name, port, address):
    here = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    here.bind((address, port))
    print("listening", flush=True)
    while True:
        datagram, client = here.recvfrom(65536)
        words = datagram.split(b" ")
        if words[0] == b"who":
            here.sendto(name.encode(), client)
        elif datagram.startswith(b"<"):
            print(f"{name} got {datagram.decode()}", flush=True)
        elif words[0] == b"segments":
            count, size = int(words[1]), int(words[2])
            whole = b"".join((b"%06d " % i).ljust(size, b"%d" % (i % 10)) for i in range(count))
            here.sendmsg([whole], [(socket.IPPROTO_UDP, UDP_SEGMENT, size.to_bytes(2, sys.byteorder))], 0, client)
        else:
            here.sendto(datagram, client)


def receive(end, seconds):
    return end.recv(65536) if select.select([end], [], [], max(0, seconds))[0] else None


def talk(ends, number, host, port, text, least):
    if number not in ends:
        ends[number] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        # Fragments, where the text is a long one.
        ends[number].setsockopt(socket.IPPROTO_IP, 10, 0)  # ip(7): IP_MTU_DISCOVER, IP_PMTUDISC_DONT
        ends[number].connect((host, port))
    end, answers, last = ends[number], set(), time.monotonic() + PATIENCE
    while quiet(lambda: receive(end, 0)) is not None:
        pass
    while True:
        quiet(lambda: end.send(text.encode()))
        until = time.monotonic() + 1
        while len(answers) < least and (left := until - time.monotonic()) > 0:
            answers.add(quiet(lambda: receive(end, left)))
            answers.discard(None)
        if len(answers) >= least or time.monotonic() > last:
            return sorted(answer.decode() for answer in answers)


def quiet(what):
    """A port unreachable is an answer of nobody."""
    try:
        return what()
    except ConnectionRefusedError:
        time.sleep(0.05)
        return None


if sys.argv[1] == "serve":
    serve(sys.argv[2], int(sys.argv[3]), sys.argv[4])
else:
    known = {}
    for line in sys.stdin:
        print(json.dumps(talk(known, *json.loads(line))), flush=True)
