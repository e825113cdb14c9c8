#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
#
# terminal.py [TEXT KEYS]... -- COMMAND...: runs COMMAND in a terminal of its own, types KEYS each time that TEXT has come
# (KEYS: \r is Enter), and leaves with its status; 1 with what came instead after a minute.
import fcntl
import os
import pty
import select
import struct
import sys
import termios
import time

at = sys.argv.index("--")
steps, command = sys.argv[1:at], sys.argv[at + 1 :]
child, terminal = pty.fork()
if not child:
    os.environ["TERM"] = "xterm"
    os.execvp(command[0], command)
fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
seen, since, until = b"", 0, time.time() + 60
while True:
    if steps and steps[0].encode() in seen[since:]:
        time.sleep(0.2)  # the screen after the text may still be on its way
        since = len(seen)
        os.write(terminal, steps[1].replace("\\r", "\r").encode())
        del steps[:2]
    if time.time() > until:
        sys.exit(f"never came: {steps}\n{seen!r}")
    if not select.select([terminal], [], [], 0.1)[0]:
        continue
    try:
        data = os.read(terminal, 65536)
    except OSError:
        data = b""
    if not data:
        break
    seen += data
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
if steps:
    sys.exit(f"never came: {steps}\n{seen!r}")
sys.exit(status)
