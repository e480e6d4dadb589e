# tc … action nat egress rewrites the source of a real TCP reply on a stock kernel. The server's kernel answers a client
# that talks to 10.0.0.2, and the client sees answers from 10.0.0.99, as `lb4 rules --dialect tc` makes DSR servers do.
set -eu
uname -r
modprobe act_nat
grep -q '^act_nat ' /proc/modules
node bin/lb4 --version
