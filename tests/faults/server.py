#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
#
# server.py FILE LOG PORTS: a web server that misbehaves on purpose, for tests/pull_faults.sh. It serves FILE under any
# name; the first part of the path says how (a function below each), the rest are its arguments. It writes its two ports
# to PORTS and a line to LOG for each request: method, port, path, range, bytes of body sent, token.
#   GET /set/KEY/VALUE changes what a mode does under that key.
import hashlib
import http.server
import os
import socketserver
import sys
import threading
import time

DATA = open(sys.argv[1], "rb").read()
HASH = hashlib.sha256(DATA).hexdigest()
COMMIT = "0123456789abcdef0123456789abcdef01234567"
ports = []
lock = threading.Lock()
values = {}  # KEY -> text, set from outside
counts = {}  # KEY -> number
parts = {}  # path -> bytes and SHA-256 of a file beside FILE


def count(key, n=1):
    with lock:
        counts[key] = counts.get(key, 0) + n
        return counts[key]


class Cut(Exception):
    pass


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.sent = 0
        self.parts = self.path.strip("/").split("/")
        try:
            getattr(self, "mode_" + self.parts[0].replace("-", "_"), self.mode_missing)(*self.parts[1:])
        except (Cut, ConnectionError):
            self.close_connection = True
        token = self.headers.get("Authorization", "-").replace(" ", "_")
        with lock, open(sys.argv[2], "a") as log:
            asked = self.headers.get("Range", "-")
            encodings = self.headers.get("Accept-Encoding", "-").replace(" ", "")
            print("GET", self.server.server_port, self.path, asked, self.sent, token, encodings, file=log)

    # -- pieces

    def asked(self):
        """(first, end) of the Range header, or None."""
        value = self.headers.get("Range")
        if not value:
            return None
        first, last = value.removeprefix("bytes=").split("-")
        return int(first), int(last) + 1

    def head(self, status, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def body(self, data, limit=None, step=16384, pause=0.0):
        """limit(n): how many of n bytes may go out; fewer: the connection is cut."""
        for at in range(0, len(data), step):
            piece = data[at : at + step]
            allowed = limit(len(piece)) if limit else len(piece)
            self.wfile.write(piece[:allowed])
            self.wfile.flush()
            self.sent += allowed
            if allowed < len(piece):
                raise Cut
            if pause:
                time.sleep(pause)

    def is_probe(self):
        return self.asked() == (0, 1)

    def good(self, data=DATA, etag='"one"', ranges=True, total=None, limit=None, pause=0.0, step=16384, **headers):
        asked = self.asked()
        condition = self.headers.get("If-Range")
        if asked and ranges and (condition is None or condition == etag):
            first, end = asked
            if first >= len(data):
                return self.head(416, Content_Length=0, Content_Range=f"bytes */{len(data)}")
            piece = data[first : min(end, len(data))]
            size = total or len(data)
            place = f"bytes {first}-{first + len(piece) - 1}/{size}"
            self.head(206, Content_Length=len(piece), Content_Range=place, ETag=etag, **headers)
            return self.body(piece, limit, step, pause)
        self.head(200, Content_Length=len(data), ETag=etag, **headers)
        return self.body(data, limit, step, pause)

    def go(self, status, to, **headers):
        self.head(status, Location=to, Content_Length=0, **headers)

    # -- modes

    def mode_missing(self, *_):
        self.head(404, Content_Length=0)

    def mode_set(self, key, value):
        values[key] = value
        counts.pop(key, None)
        self.head(200, Content_Length=0)

    def mode_plain(self, *_):
        self.good()

    def mode_token(self, *_):
        """401 without a token."""
        if self.headers.get("Authorization"):
            return self.good()
        return self.head(401, Content_Length=0)

    def mode_cut(self, percent, key, *_, ranges=True):
        """The first PERCENT of the file's bytes, then cut connections, until KEY is set to well."""
        if self.is_probe() or values.get(key) == "well":
            return self.good(ranges=ranges)
        return self.good(limit=self.budget(key, len(DATA) * int(percent) // 100), ranges=ranges)

    def budget(self, key, most):
        """A limit of `most` bytes for all requests under KEY together."""

        def limit(n):
            with lock:
                used = counts.get(key, 0)
                counts[key] = used + min(n, most - used)
                return counts[key] - used

        return limit

    def mode_cut_stream(self, percent, key, *_):
        self.mode_cut(percent, key, ranges=False)

    def mode_choppy(self, *_):
        """Every connection is cut after 100,000 bytes."""
        left = [100000]

        def limit(n):
            allowed = min(n, left[0])
            left[0] -= allowed
            return allowed

        self.good(limit=limit)

    def mode_stream(self, *_):
        """No ranges at all."""
        self.good(ranges=False)

    def mode_whole(self, *_):
        """200 for 206, although the first reply said that ranges work."""
        self.good(ranges=self.is_probe())

    def mode_unsatisfied(self, *_):
        if self.is_probe():
            return self.good()
        return self.head(416, Content_Length=0, Content_Range=f"bytes */{len(DATA)}")

    def mode_changing(self, key, *_):
        """Another file and another ETag once KEY is set; etag-only: the same file under another ETag."""
        if values.get(key) == "other":
            return self.good(data=DATA[::-1], etag='"two"')
        if values.get(key) == "etag-only":
            return self.good(etag='"two"')
        return self.good(pause=0.02 if values.get(key) == "slow" else 0)

    def mode_change_midway(self, key, *_):
        """The file becomes another one after ten requests."""
        if count(key) > 10:
            return self.good(data=DATA[::-1], etag='"two"')
        return self.good()

    def mode_flapping(self, key, *_):
        """Never the same ETag."""
        self.good(etag=f'"{count(key)}"')

    def mode_short(self, *_):
        """Whole replies, but of half of what was asked."""
        asked = self.asked()
        if self.is_probe():
            return self.good()
        piece = DATA[asked[0] : asked[0] + 1000]
        place = f"bytes {asked[0]}-{asked[0] + len(piece) - 1}/{len(DATA)}"
        self.head(206, Content_Length=len(piece), Content_Range=place, ETag='"one"')
        return self.body(piece)

    def mode_long(self, *_):
        """More bytes than were asked."""
        asked = self.asked()
        if self.is_probe():
            return self.good()
        piece = DATA[asked[0] : asked[1]] + b"x" * 100
        self.head(206, Content_Length=len(piece), Content_Range=f"bytes {asked[0]}-{asked[1] - 1}/{len(DATA)}")
        return self.body(piece)

    def mode_elsewhere(self, *_):
        """Another range than was asked."""
        if self.is_probe():
            return self.good()
        first = self.asked()[0] + 1
        self.head(206, Content_Length=10, Content_Range=f"bytes {first}-{first + 9}/{len(DATA)}", ETag='"one"')
        return self.body(DATA[first : first + 10])

    def mode_endless(self, *_):
        """No length is told."""
        self.head(200, Connection="close")
        self.close_connection = True
        self.body(DATA)

    def mode_corrupt(self, key, *_):
        """One byte is wrong the first time that it is sent; KEY always: every time."""
        asked = self.asked()
        bad = len(DATA) // 2
        data = DATA
        if asked and asked[0] <= bad < asked[1] and (values.get(key) == "always" or count(key) == 1):
            data = DATA[:bad] + bytes([DATA[bad] ^ 1]) + DATA[bad + 1 :]
        self.good(data=data, X_Linked_Etag=f'"{HASH}"', X_Linked_Size=len(DATA))

    def mode_drip(self, key, *_):
        """A byte now and then, until KEY is set to well."""
        if self.is_probe() or values.get(key) == "well":
            return self.good()
        return self.good(pause=0.5, step=1)

    def mode_slow(self, *_):
        """About 400 KB/s a connection."""
        self.good(pause=0.04)

    def mode_busy(self, key, times, *_):
        if count(key) <= int(times):
            return self.head(503, Content_Length=0, Retry_After=0)
        return self.good()

    def mode_zipped(self, *_):
        self.good(Content_Encoding="gzip")

    def mode_loop(self, *rest):
        self.go(302, "/loop/" + "/".join(rest))

    def mode_hops(self, n, *rest):
        self.go(307, f"/hops/{int(n) - 1}/" + "/".join(rest) if int(n) > 1 else "/plain/" + "/".join(rest))

    def mode_insecure(self, *_):
        self.go(302, "http://192.0.2.1/x.gguf")

    def mode_local(self, *_):
        self.go(302, "file:///etc/passwd")

    def mode_evil(self, *_):
        """A name that wants out of the folder, in every place where a server may put one."""
        if "evil" not in self.path.rsplit("/", 1)[1]:
            return self.go(302, "/evil/..%2f..%2f..%2fevil.gguf")
        return self.good(Content_Disposition='attachment; filename="../../../evil.gguf"', X_Repo_Commit="../../../evil")

    def mode_owner(self, repository, _, revision, *rest):
        """The hub: facts in the first reply, the file at another host."""
        if revision not in ("main", COMMIT):
            return self.head(404, Content_Length=0)
        size = 12345 if repository == "wrong-length" else len(DATA)
        facts = {"X_Repo_Commit": COMMIT, "X_Linked_Etag": f'"{HASH}"', "X_Linked_Size": size}
        return self.go(302, f"http://localhost:{ports[1]}/cdn/{repository}/{count('cdn')}/x", **facts)

    mode_bartowski = mode_owner  # a file of the catalogue, with another length and hash

    def part(self):
        """The file of that name beside FILE with its hash, or None."""
        path = os.path.join(os.path.dirname(sys.argv[1]), os.path.basename(self.path))
        if path not in parts and os.path.exists(path):
            data = open(path, "rb").read()
            parts[path] = data, hashlib.sha256(data).hexdigest()
        return parts.get(path)

    def mode_parts(self, *_, limit=None, **headers):
        part = self.part()
        if not part:
            return self.mode_missing()
        return self.good(data=part[0], etag=f'"{part[1]}"', limit=limit, **headers)

    def mode_parts_cut(self, number, key, name, *_):
        """File NUMBER of a model in parts is cut in the middle, until KEY is set to well."""
        if self.is_probe() or values.get(key) == "well" or f"-0000{number}-of" not in name:
            return self.mode_parts()
        return self.mode_parts(limit=self.budget(key, len(self.part()[0]) // 2))

    def mode_parts_hub(self, repository, _, revision, *rest):
        """The hub, with the files beside FILE."""
        part = self.part()
        if revision not in ("main", COMMIT) or not part:
            return self.mode_missing()
        return self.mode_parts(X_Repo_Commit=COMMIT, X_Linked_Etag=f'"{part[1]}"', X_Linked_Size=len(part[0]))

    def mode_cdn(self, repository, number, *_):
        """A signed address that serves six requests; each host has its own ETag, and lies about the hash."""
        if repository == "expiring" and count("cdn" + number) > 6:
            return self.head(403, Content_Length=0)
        return self.good(etag='"cdn"', X_Linked_Etag='"' + "0" * 64 + '"', X_Repo_Commit="f" * 40)


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *_):
        pass


servers = [Server(("127.0.0.1", 0), Handler) for _ in range(2)]
ports.extend(s.server_port for s in servers)
for s in servers:
    threading.Thread(target=s.serve_forever, daemon=True).start()
with open(sys.argv[3] + ".new", "w") as out:
    print(*ports, file=out)
os.rename(sys.argv[3] + ".new", sys.argv[3])
while os.getppid() != 1:  # ends with the test
    time.sleep(0.5)
