# The servers of real clients, in a network and a PID namespace of their own. $1: a directory for their data.
# $2: a python with aioquic, if there is one. Prints "ready" and stays.
set -e
D=$1
P=/usr/bin/python3
cd "$D"
chmod 755 "$D"
mkdir -p web git tftp ftp ssh pg redis /run/sshd
head -c 3000000 /dev/urandom > web/8m
head -c 200000 /dev/urandom > tftp/200k
cp web/8m ftp/8m
for i in $(seq 40); do echo "$i" > web/$i; done
have() { command -v "$1" >/dev/null || [ -x "/usr/sbin/$1" ]; }

# HTTP, and HTTPS with HTTP/2.
openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=server.test \
    -addext subjectAltName=DNS:server.test,IP:198.51.100.9 2>/dev/null
cat > nginx.conf <<END
daemon off; master_process off; pid $D/nginx.pid; error_log $D/nginx.log;
events { worker_connections 512; }
http {
    access_log off; client_body_temp_path $D/body; proxy_temp_path $D/p; fastcgi_temp_path $D/f; uwsgi_temp_path $D/u; scgi_temp_path $D/s;
    server { listen 80; listen [::]:80; root $D/web; location /git/ { alias $D/git/; } }
    server { listen 443 ssl http2; listen [::]:443 ssl http2; ssl_certificate $D/cert.pem; ssl_certificate_key $D/key.pem; root $D/web; }
}
END
have nginx && nginx -c "$D/nginx.conf" -e "$D/nginx.log" &
# Uploads: answers with the checksum. Counts down: five answers, then a reset.
$P -c '
import hashlib, http.server, os, socket, struct, sys
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_PUT(self):
        sum = hashlib.sha256(self.rfile.read(int(self.headers["Content-Length"]))).hexdigest().encode()
        self.send_response(200); self.send_header("Content-Length", str(len(sum))); self.end_headers(); self.wfile.write(sum)
    def do_GET(self):
        self.send_response(200); self.send_header("Content-Length", "1000000"); self.end_headers(); self.wfile.write(b"x" * 5000); self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)); os.close(self.connection.detach())
    def log_message(self, *_): pass
class S(http.server.ThreadingHTTPServer): request_queue_size = 128
S(("0.0.0.0", 8000), H).serve_forever()' 2>/dev/null &

# git
git init -q --bare git/r.git
git -C git/r.git config uploadpack.allowAnySHA1InWant true
git init -q work
cp web/8m work/
git -C work -c user.name=a -c user.email=a@b add 8m
git -C work -c user.name=a -c user.email=a@b commit -qm one
git -C work push -q "$D/git/r.git" HEAD:refs/heads/main
git -C git/r.git symbolic-ref HEAD refs/heads/main
git -C git/r.git update-server-info
git daemon --base-path="$D/git" --export-all --reuseaddr >/dev/null 2>&1 &

# ssh
ssh-keygen -q -t ed25519 -N '' -f ssh/host
ssh-keygen -q -t ed25519 -N '' -f ssh/key
cp ssh/key.pub ssh/authorized
cat > ssh/config <<END
Port 22
HostKey $D/ssh/host
AuthorizedKeysFile $D/ssh/authorized
StrictModes no
PermitRootLogin yes
UsePAM no
PidFile none
MaxStartups 100
Subsystem sftp internal-sftp
END
have sshd && /usr/sbin/sshd -D -f ssh/config -E "$D/ssh/log" &

# rsync
printf 'use chroot = no\n[web]\npath = %s/web\n' "$D" > rsync.conf
have rsync && rsync --daemon --no-detach --config=rsync.conf &

# redis, PostgreSQL
have redis-server && redis-server --bind 0.0.0.0 --protected-mode no --save '' --dir "$D/redis" --logfile "$D/redis/log" &
PG=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | tail -1)
if [ -n "$PG" ]; then
    chown postgres pg
    (
        cd pg
        as() { setpriv --reuid postgres --regid postgres --clear-groups "$@"; }
        as "$PG/initdb" -D "$D/pg/data" -A trust -N -U postgres >/dev/null 2>&1
        echo 'host all all 0.0.0.0/0 trust' >> data/pg_hba.conf
        exec setpriv --reuid postgres --regid postgres --clear-groups "$PG/postgres" -D "$D/pg/data" -k '' -c listen_addresses='*' \
            -c fsync=off > "$D/pg/log" 2>&1
    ) &
fi

# ftp, tftp
$P -c '
import sys
from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler
from pyftpdlib.servers import FTPServer
a = DummyAuthorizer(); a.add_anonymous(sys.argv[1])
class H(FTPHandler): authorizer = a; permit_foreign_addresses = True
import logging; logging.disable()
FTPServer(("0.0.0.0", 21), H).serve_forever()' "$D/ftp" 2>/dev/null &
have in.tftpd && /usr/sbin/in.tftpd -L -a 198.51.100.9:69 -s "$D/tftp" &

# iperf3, NTP
if have iperf3; then for port in 5201 5202 5203; do iperf3 -s -p $port >/dev/null 2>&1 & done; fi
printf 'local stratum 8\nallow all\ncmdport 0\npidfile %s/chrony.pid\n' "$D" > chrony.conf
have chronyd && chronyd -x -n -u root -f "$D/chrony.conf" >/dev/null 2>&1 &

# A port that answers nothing.
$P -c '
import socket, time
l = socket.socket(); l.bind(("0.0.0.0", 81)); l.listen(0)
waiting = [socket.socket() for _ in range(4)]
for w in waiting:
    w.setblocking(False)
    try: w.connect(("127.0.0.1", 81))
    except OSError: pass
time.sleep(1e6)' &

# HTTP/3
[ -n "$2" ] && "$2" "$D/http3.py" serve "$D" 2>/dev/null &

for port in 80 443 8000 22 21 6379 5432 873 9418 5201; do
    for i in $(seq 100); do
        (exec 3<>/dev/tcp/127.0.0.1/$port) 2>/dev/null && break
        sleep 0.1
    done
done
echo ready
wait
