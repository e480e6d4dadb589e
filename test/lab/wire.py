"""Frames in and out of one interface: hexadecimal lines on standard input are sent, received frames are printed likewise.

It opens the frames' checksums and offloads to nobody: test/lab/wire.ts builds and reads them.
"""
import os
import select
import socket
import sys

wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))  # ETH_P_ALL
wire.bind((sys.argv[1], 0))
print("ready", flush=True)
rest = b""
while True:
    readable, _, _ = select.select([0, wire], [], [])
    if 0 in readable:
        piece = os.read(0, 65536)
        if not piece:
            break
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            wire.send(bytes.fromhex(line.decode()))
    if wire in readable:
        frame, address = wire.recvfrom(65536)
        if address[2] != socket.PACKET_OUTGOING:
            print(frame.hex(), flush=True)
