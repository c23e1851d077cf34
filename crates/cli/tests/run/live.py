# Runs lastack with a pseudoterminal. Prints, as JSON: status, stdout, stderr, and what the terminal got.
# Arguments: "other" (the table has the terminal, the program a pipe) or "own" (the program has it too), lastack, ..
import fcntl, json, os, struct, subprocess, sys, termios, threading

kind, lastack, rest = sys.argv[1], sys.argv[2], sys.argv[3:]
near, far = os.openpty()
fcntl.ioctl(far, termios.TIOCSWINSZ, struct.pack("HHHH", 20, 120, 0, 0))
got = bytearray()


def read():
    try:
        while data := os.read(near, 65536):
            got.extend(data)
    except OSError:
        pass


thread = threading.Thread(target=read)
thread.start()


def own():
    os.setsid()
    fcntl.ioctl(far, termios.TIOCSCTTY, 0)


if kind == "own":
    options = dict(stdout=far, stderr=far, preexec_fn=own)
    live = "--live"
else:
    options = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    live = "--live=" + os.ttyname(far) if kind == "other" else "--live"
ran = subprocess.run([lastack, "run", live, *rest], stdin=subprocess.DEVNULL, timeout=60, **options)
os.close(far)
thread.join()
text = lambda data: (data or b"").decode()
print(json.dumps({"status": ran.returncode, "out": text(ran.stdout), "err": text(ran.stderr), "terminal": text(got)}))
