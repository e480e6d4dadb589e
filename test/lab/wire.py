"""Frames in and out of one interface: hexadecimal lines on standard input are sent, received frames are printed likewise.

A line sent is a virtio-net header (ten bytes, PACKET_VNET_HDR of packet(7)) and the frame; what is printed has none. It opens
the frames' checksums to nobody: test/lab/wire.ts builds and reads them.
"""
import os
import select
import socket
import sys

SOL_PACKET = 263
PACKET_VNET_HDR = 15
SO_RCVBUFFORCE = 33
VNET = 10

wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
wire.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
# A burst of fragments is more than the default has room for.
wire.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
wire.bind((sys.argv[1], 3))  # ETH_P_ALL
print("ready", flush=True)
rest = b""
while True:
    readable, _, _ = select.select([0, wire], [], [])
    if 0 in readable:
        piece = os.read(0, 1 << 20)
        if not piece:
            break
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            wire.send(bytes.fromhex(line.decode()))
    if wire in readable:
        frame, address = wire.recvfrom(1 << 20)
        if address[2] != socket.PACKET_OUTGOING:
            print(frame[VNET:].hex(), flush=True)
