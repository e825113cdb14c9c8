#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
#
# proxy.py PORT_FILE LOG TLS_PORT: a CONNECT proxy for tests/pull_https.sh. Whatever host is asked for is the server on
# 127.0.0.1:TLS_PORT, so that names which no resolver knows can be reached, through here alone. LOG gets a line for each
# request: the target and Proxy-Authorization. refused.test is answered with 407, down.test with 503.
import os
import socket
import sys
import threading
import time


def pump(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass
    finally:
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def serve(client):
    head = b""
    while b"\r\n\r\n" not in head and len(head) < 65536:
        data = client.recv(4096)
        if not data:
            return
        head += data
    lines = head.decode("latin-1").split("\r\n")
    method, target, _ = lines[0].split(" ")
    login = [line.partition(": ")[2] for line in lines if line.lower().startswith("proxy-authorization:")]
    with open(sys.argv[2], "a") as log:
        print(method, target, *login or ["-"], file=log)
    refusal = {"refused.test": "407 Authentication Required", "down.test": "503 Down"}.get(target.partition(":")[0])
    if method != "CONNECT" or refusal:
        client.sendall(f"HTTP/1.1 {refusal or '405 No'}\r\nContent-Length: 0\r\n\r\n".encode())
        client.close()
        return
    server = socket.create_connection(("127.0.0.1", int(sys.argv[3])))
    client.sendall(b"HTTP/1.1 200 Through\r\n\r\n")
    threading.Thread(target=pump, args=(server, client), daemon=True).start()
    pump(client, server)


listener = socket.create_server(("127.0.0.1", 0), backlog=64)
with open(sys.argv[1] + ".new", "w") as out:
    print(listener.getsockname()[1], file=out)
os.rename(sys.argv[1] + ".new", sys.argv[1])


def accept():
    while True:
        threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()


threading.Thread(target=accept, daemon=True).start()
while os.getppid() != 1:  # ends with the test
    time.sleep(0.5)
