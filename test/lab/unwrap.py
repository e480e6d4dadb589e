"""A server's end of a tunnel, for kernels without FOU and IPIP: what is inside of packets goes to this host by a tun device.

    unwrap.py DEVICE PORT     GUE at that UDP port; 0: IP in IP
"""
import fcntl
import os
import socket
import struct
import sys

TUNSETIFF = 0x400454CA
SO_RCVBUFFORCE = 33
IFF_TUN, IFF_NO_PI = 1, 0x1000
IP_IN_IP = 4

device, port = sys.argv[1], int(sys.argv[2])
tun = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", device.encode(), IFF_TUN | IFF_NO_PI))
if port == 0:
    outer = socket.socket(socket.AF_INET, socket.SOCK_RAW, IP_IN_IP)
else:
    outer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    outer.bind(("0.0.0.0", port))
# More than the default, which a window's worth of small packets would fill.
outer.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
os.system("ip link set %s up" % device)
print("ready", flush=True)
while True:
    packet = outer.recv(65536)
    # Raw sockets have the IP header, too (raw(7)); of GUE the low five bits of the first byte are the words behind its first one.
    skipped = (packet[0] & 15) * 4 if port == 0 else 4 + (packet[0] & 31) * 4
    try:
        os.write(tun, packet[skipped:])
    except OSError:
        pass  # not up yet, or no IP packet
