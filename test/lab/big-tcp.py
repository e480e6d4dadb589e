"""Lets an interface's super-packets grow (rtnetlink(7); older iproute2 knows no gso_ipv4_max_size): big-tcp.py DEVICE BYTES."""
import socket
import struct
import sys

NETLINK_ROUTE, RTM_SETLINK, NLM_F_REQUEST_ACK = 0, 19, 5
IFLA_GSO_IPV4_MAX_SIZE, IFLA_GRO_IPV4_MAX_SIZE = 63, 64

body = struct.pack("BBHiII", 0, 0, 0, socket.if_nametoindex(sys.argv[1]), 0, 0)
for attribute in (IFLA_GSO_IPV4_MAX_SIZE, IFLA_GRO_IPV4_MAX_SIZE):
    body += struct.pack("HHI", 8, attribute, int(sys.argv[2]))
route = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_ROUTE)
route.send(struct.pack("IHHII", 16 + len(body), RTM_SETLINK, NLM_F_REQUEST_ACK, 1, 0) + body)
error = -struct.unpack("i", route.recv(4096)[16:20])[0]
if error != 0:
    raise OSError(error, "RTM_SETLINK")
