"""A shell, as far as lastack is concerned: runs a job on a terminal of its own, stops it, continues it and interrupts it.

Prints what became of the job each time. Arguments: the command of the job.
"""

import os
import pty
import select
import signal
import socket
import sys
import time

LIMIT = 60


def shell(job):
    """The leader of the session, whose terminal is the standard input; answers over descriptor 3."""
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    pid = os.fork()
    if pid == 0:
        os.setpgid(0, 0)
        os.tcsetpgrp(0, os.getpgrp())
        signal.signal(signal.SIGTTOU, signal.SIG_DFL)
        os.close(3)
        os.execv(job[0], job)
    while True:
        _, status = os.waitpid(pid, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            how = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"status {os.WEXITSTATUS(status)}"
            os.write(3, f"ended with {how}\n".encode())
            return
        os.tcsetpgrp(0, os.getpgrp())
        os.write(3, b"stopped\n")
        # `fg`, once the other side says so.
        os.read(3, 1)
        os.tcsetpgrp(0, pid)
        os.killpg(pid, signal.SIGCONT)


class Session:
    def __init__(self, job):
        near, far = socket.socketpair()
        pid, self.terminal = pty.fork()
        if pid == 0:
            os.dup2(far.fileno(), 3)
            shell(job)
            os._exit(0)
        far.close()
        self.control = near
        self.screen = b""

    def look(self, condition, what):
        """Reads the terminal until the condition holds."""
        begun = time.monotonic()
        while not condition():
            if time.monotonic() - begun > LIMIT:
                sys.exit(f"{what} is not seen: {self.screen[-500:]!r}")
            if select.select([self.terminal], [], [], 0.05)[0]:
                try:
                    self.screen += os.read(self.terminal, 4096)
                except OSError:
                    time.sleep(0.05)

    def beats(self, count):
        start = self.screen.count(b"beat")
        self.look(lambda: self.screen.count(b"beat") >= start + count, "a beat")

    def told(self):
        said = []

        def heard():
            if select.select([self.control], [], [], 0)[0]:
                said.append(self.control.recv(99).decode().strip())
            return said

        self.look(heard, "the end of the job")
        print(said[0], flush=True)

    def quiet(self):
        """Whether the program makes no output: what was under way is read first."""
        self.look(lambda: not select.select([self.terminal], [], [], 0.3)[0], "quiet")


session = Session(sys.argv[1:])
session.beats(2)
for _ in range(2):
    os.write(session.terminal, b"\x1a")
    session.told()
    session.quiet()
    session.control.sendall(b"f")
    session.beats(2)
    print("continued", flush=True)
os.write(session.terminal, b"\x03")
session.told()
