/**
 * What an errno of connect(2), bind(2), send(2) or of starting a command says, and about whom. Health checks and the proxy's
 * connects go by the same table.
 *
 * Sources: the ERRORS sections of connect(2), bind(2), send(2), execve(2), fork(2), ip(7) and tcp(7); for what ICMP errors
 * become, icmp_err_convert in net/ipv4/icmp.c; for what kinds of routes answer, fib_props in net/ipv4/fib_semantics.c.
 */
import { lookUp } from './look-up.ts';

/**
 * - `server`: the server, or the host it is on, says no or nothing
 * - `route`: this host has no way to that server: nobody here reaches it, other servers may be reached
 * - `host`: this host or lb4's set-up is wrong, whatever the server
 * - `short`: this host is out of something; the next try may find it
 * - `again`: what was asked for is in use just now: another port, or another server, may do
 */
export type Fault = 'server' | 'route' | 'host' | 'short' | 'again';

/** What was attempted, by the name that Node gives to an error's `syscall` (`read` and `write` count as `send`). */
export type Attempt = 'connect' | 'bind' | 'send' | 'spawn';

export interface Meaning {
  readonly fault: Fault;
  /** For people; names no server, so that one line can stand for many. */
  readonly words: string;
}

const server = (words: string): Meaning => ({ fault: 'server', words });
const route = (words: string): Meaning => ({ fault: 'route', words });
const host = (words: string): Meaning => ({ fault: 'host', words });
const short = (words: string): Meaning => ({ fault: 'short', words });
const again = (words: string): Meaning => ({ fault: 'again', words });

/** Whatever was attempted. */
const ALWAYS: Readonly<Record<string, Meaning>> = {
  ECONNREFUSED: server('connection refused'),
  ECONNRESET: server('connection reset'),
  ECONNABORTED: server('connection aborted'),
  ETIMEDOUT: server('no answer'),
  EPIPE: server('connection closed'),
  ENOTCONN: server('connection closed'),
  ESHUTDOWN: server('connection closed'),
  ENETRESET: server('connection reset by the network'),
  EPROTO: server('protocol error'),
  ENOPROTOOPT: server('its host says that it has no TCP (ICMP protocol unreachable)'),
  EHOSTDOWN: server('host is down'),
  // ARP got no answer, an unreachable route, or a router or firewall said so by ICMP.
  EHOSTUNREACH: server('no route to host: it answers no ARP, or a route or firewall says unreachable'),
  ENETUNREACH: route('network unreachable: this host has no route there (ip route get ADDRESS), or a router or firewall says so'),
  ENETDOWN: route("network down: this host's link there is down"),
  ENONET: route('network unreachable: isolated, says a router'),
  ENODEV: route("this host's link there is gone"),
  ENXIO: route("this host's link there is gone"),
  EMSGSIZE: route('too large for the path: a router says a smaller MTU than this host can send'),
  EOPNOTSUPP: route('a router refused the source route'),
  EADDRINUSE: again('no free local port'),
  EAGAIN: again('this host was busy'),
  EWOULDBLOCK: again('this host was busy'),
  EINTR: again('interrupted by a signal'),
  EINPROGRESS: again('still connecting'),
  EALREADY: again('still connecting'),
  EBUSY: again('this host was busy'),
  ECANCELED: again('stopped'),
  EMFILE: short('lb4 has too many open files (EMFILE): raise its limit (ulimit -n)'),
  ENFILE: short('this host has too many open files (ENFILE): raise fs.file-max'),
  ENOBUFS: short('this host has no buffer space'),
  ENOMEM: short('this host is out of memory'),
  ENOSR: short('this host is out of memory'),
  ENOSPC: short('this host is out of space'),
  EDQUOT: short('this host is out of space'),
  EAFNOSUPPORT: host('this host does not speak that kind of address (IPv6 switched off?)'),
  EPFNOSUPPORT: host('this host does not speak that kind of address (IPv6 switched off?)'),
  EPROTONOSUPPORT: host('this host has no TCP'),
  ESOCKTNOSUPPORT: host('this host has no TCP'),
};

/** Where it depends on what was attempted; these come first. */
const BY_ATTEMPT: Readonly<Record<Attempt, Readonly<Record<string, Meaning>>>> = {
  connect: {
    EINVAL: route('blackhole: a route of this host throws packets to it away (ip route get ADDRESS)'),
    EACCES: route('prohibited by a route or a security policy of this host (ip route get ADDRESS)'),
    EPERM: route('forbidden by the local firewall'),
    EADDRNOTAVAIL: again('no free local port towards it'),
    EISCONN: again('still connected'),
  },
  send: {
    EINVAL: route('blackhole: a route of this host throws packets to it away (ip route get ADDRESS)'),
    EACCES: route('prohibited by a route or a security policy of this host (ip route get ADDRESS)'),
    EPERM: route('forbidden by the local firewall'),
  },
  bind: {
    EADDRNOTAVAIL: host('the source address is no address of this host'),
    EACCES: host('lb4 may not use that local port: CAP_NET_BIND_SERVICE is missing, or a security policy forbids it'),
    EPERM: host('a security policy of this host forbids the source address'),
    EINVAL: host('the source address cannot be used'),
  },
  spawn: {
    ENOENT: host('there is no such command'),
    ENOTDIR: host('there is no such command'),
    EACCES: host('the command may not be run'),
    EPERM: host('the command may not be run'),
    EISDIR: host('the command is a directory'),
    ENOEXEC: host('the command is no program'),
    ELIBBAD: host('the command is no program'),
    EINVAL: host('the command is no program'),
    ELOOP: host('the path of the command is a loop of symbolic links'),
    ENAMETOOLONG: host('the path of the command is too long'),
    E2BIG: host('the command and its environment are too long'),
    EIO: host('the command could not be read'),
    EAGAIN: short('this host has no room for another process (ulimit -u, cgroup pids.max)'),
    ETXTBSY: again('the command is being written'),
  },
};

/** An errno that none of the calls is known to give says something about lb4 or this kernel. No server is blamed for that. */
const DEFAULT: Fault = 'host';

/** What `code` ("EINVAL") means when it came from `attempt`; any code at all gets an answer. */
export function meaningOf(code: string, attempt: Attempt): Meaning {
  return lookUp(BY_ATTEMPT[attempt], code) ?? lookUp(ALWAYS, code) ?? { fault: DEFAULT, words: `${attempt}: ${code || 'unknown error'}` };
}

/** The same of an error as Node throws it, by its `code` and `syscall`. */
export function meaningOfError({ code = '', syscall = '' }: NodeJS.ErrnoException): Meaning {
  return meaningOf(code, attemptOf(syscall));
}

/** Node says "spawn PROGRAM", and `read` and `write` of a connection. */
function attemptOf(syscall: string): Attempt {
  if (syscall === 'connect' || syscall === 'bind') return syscall;
  return syscall.startsWith('spawn') ? 'spawn' : 'send';
}
