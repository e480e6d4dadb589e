"""Runs a program whose standard error is a terminal, until standard input says a line: then the terminal is gone.

    on-terminal.py PROGRAM ARGUMENT…

Prints "pid N" of the program, what it writes to the terminal, and ends with its exit status.
"""
import os
import pty
import select
import sys

pid, terminal = pty.fork()
if pid == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
print("pid", pid, flush=True)
while True:
    ready, _, _ = select.select([terminal, 0], [], [])
    if 0 in ready:
        break
    sys.stdout.buffer.write(os.read(terminal, 65536))
    sys.stdout.flush()
os.close(terminal)
print("gone", flush=True)
_, status = os.waitpid(pid, 0)
sys.exit(os.waitstatus_to_exitcode(status))
