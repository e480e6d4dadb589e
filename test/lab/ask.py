"""HTTP requests from inside a namespace, by one program for all of them: for each line `HOST PORT PATH` on standard input it prints
`STATUS BODY`, the body in hexadecimal, or `failed REASON`."""
import socket
import sys

PATIENCE = 60


def ask(host, port, path):
    with socket.create_connection((host, int(port)), PATIENCE) as connection:
        connection.sendall(f"GET {path} HTTP/1.0\r\nHost: {host}:{port}\r\n\r\n".encode())
        answer = b""
        while piece := connection.recv(1 << 20):
            answer += piece
    head, end, body = answer.partition(b"\r\n\r\n")
    if not end:
        raise OSError("no whole answer")
    return f"{head.split(b' ', 2)[1].decode()} {body.hex()}"


for line in sys.stdin:
    try:
        print(ask(*line.split()), flush=True)
    except OSError as error:
        print(f"failed {error}", flush=True)
