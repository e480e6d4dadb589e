/**
 * The addon's face: every function that native/addon.cc exports, typed. Nothing else in src/ loads the addon.
 *
 * A failed system call throws an Error with `code` ('EPERM' …), `errno` (positive) and `syscall` set, whose message says
 * what was attempted ("socket(AF_PACKET): Operation not permitted"). A wrong argument throws a TypeError that names it and what is
 * allowed, before anything was done.
 */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { arch } from 'node:process';
import { messageOf } from '../errors.ts';
import { IS_CHECKOUT, ownFile } from '../own-files.ts';

/** What the receive ring and the sockets are made of. */
export interface PacketSocketOptions {
  /** Receive slots. */
  readonly slots: number;
  /** Classic BPF, two words an instruction as in `struct sock_filter`: code | jt << 16 | jf << 24, then k. Attached before bind. */
  readonly filter: Uint32Array;
  /** Microseconds that `receive` looks at the ring before it sleeps, 0–10,000; 0 when left out. */
  readonly busyPollUs?: number;
  /** Frames of any kind (ETH_P_ALL), with VLAN tags in their VLAN word, not IPv4 alone; false when left out. */
  readonly all?: boolean;
}

/**
 * AF_PACKET: a TPACKET_V2 receive ring over all interfaces for IPv4 frames, and transmission by sendmmsg(2) out of the
 * same ring. One batch at a time: receive, work in place, transmit.
 */
export interface PacketSocket {
  /** The whole ring. Frames stand in it as `src/layout/frames.ts` describes. */
  readonly slab: ArrayBuffer;
  /** Byte length of one slot; every frame may grow in place to the end of its slot. */
  readonly slotBytes: number;
  /**
   * Waits up to `timeoutMs` (0: do not wait, -1: without end) for a frame or a `wake()`, then describes up to
   * `frames`' capacity of them in `frames` (layout: src/layout/frames.ts) and returns how many. Always writes the clock word.
   */
  receive(frames: Int32Array, timeoutMs: number): number;
  /**
   * Sends the frames of the last batch whose OUT word says so, in order, then hands all its slots back to the kernel.
   * Returns how many frames the kernel took. A frame the kernel refuses gets its OUT word set to -errno.
   */
  transmit(frames: Int32Array, count: number): number;
  /** Replaces the in-kernel filter atomically. */
  setFilter(filter: Uint32Array): void;
  /**
   * Of a socket that takes `all`: up to 64 interface indexes, in place of those before. They take frames addressed to others, too
   * (PACKET_MR_PROMISC); FLOOD goes to all but the first. One that is gone is passed over.
   */
  setPorts(ports: readonly number[]): void;
  /** The socket's descriptor, for {@link NativeAddon.fanOut}, from any thread of the process. Not to be closed, and nobody's after `close`. */
  readonly fd: number;
  /** The eventfd whose write ends a waiting `receive`; give it to `wake` from any thread. */
  readonly wakeFd: number;
  /** Frames the kernel passed to the ring and frames it had to drop since the last call (PACKET_STATISTICS). */
  statistics(): { received: number; dropped: number };
  close(): void;
}

/** Where the kernel would send a packet. IPv4 addresses are native-order loads of network bytes, as everywhere in the core. */
export interface Route {
  /**
   * The route's type as in rtnetlink(7); `none`: there is no route (or only a `throw`), `source`: the source asked for is no
   * address of this host. Nothing is sent by a blackhole, prohibit, unreachable, none or source; those have no interface.
   */
  readonly kind: 'unicast' | 'local' | 'broadcast' | 'multicast' | 'blackhole' | 'prohibit' | 'unreachable' | 'none' | 'source';
  /** Interface index, 0 when there is no route. */
  readonly ifindex: number;
  /**
   * The neighbour to resolve: the gateway, or the destination itself where it is on link. A gateway may be of the other family
   * (RTA_VIA, `ip route add … via inet6 …`): then the 16 bytes of its IPv6 address.
   */
  readonly neighbour: number | Uint8Array;
  /** The address the kernel would send from. */
  readonly source: number;
  /** Path MTU of the route or the interface's, in bytes. */
  readonly mtu: number;
  /** Without what ICMP errors have made the kernel believe, which anybody can forge for many of its sockets: the route's own, or the interface's. */
  readonly ownMtu: number;
  /** True where the destination is an address of this host. */
  readonly local: boolean;
  /** The route wraps packets in something (`ip route add … encap …`: MPLS, SRv6, a tunnel): bare frames would go astray. */
  readonly encapsulated: boolean;
}

export interface Interface {
  readonly index: number;
  readonly name: string;
  readonly mtu: number;
  /** Six bytes; empty for an interface without Ethernet addresses (tun, ppp). */
  readonly mac: Uint8Array;
  /** Somebody set it up (IFF_UP); without `carrier` (IFF_RUNNING) no frame leaves all the same: no cable, or the other end is down. */
  readonly up: boolean;
  /** "bridge", "veth", "bond" …; empty for plain hardware. */
  readonly kind: string;
  /** The index of the interface that takes its frames: a bridge, a bond, a VRF. 0: none. */
  readonly master: number;
  /** The index of the interface that its frames go by (of a VLAN, a macvlan), or of a veth's other end. 0: none, or in another namespace's numbers. */
  readonly link: number;
  /** A bridge's own nf_call_iptables: with br_netfilter its frames pass iptables, whatever the sysctl of the network namespace says. */
  readonly callsIptables: boolean;
  readonly carrier: boolean;
}

/** rtnetlink(7) questions, asked synchronously, and one thread that tells when an answer may have changed. */
export interface RouteSocket {
  /**
   * RTM_GETROUTE for `destination` from `source` (or 0: whichever the kernel takes), rules by source included; with a
   * `port` of the destination and the number of its `protocol` (0: of none) rules by these, too; EOPNOTSUPP for one that the kernel has no
   * routes by (other than TCP, UDP, ICMP). Where there are several next hops, the one that flows between
   * the two addresses take. Throws only what says nothing of a route (ENOBUFS …).
   */
  route(destination: number, source: number, port: number, protocol: number): Route;
  /** The interfaces of all next hops of that route, by index: one where there is one, none where there is no route. Throws as `route` does. */
  links(destination: number, source: number, port: number, protocol: number): number[];
  /** RTM_GETNEIGH for an IPv4 address, or the 16 bytes of an IPv6 one: six bytes, or undefined while it is unresolved or failed. */
  neighbour(ifindex: number, address: number | Uint8Array): Uint8Array | undefined;
  /** The same: whether the kernel has asked for it, and nobody has answered (NUD_FAILED). */
  isSilent(ifindex: number, address: number | Uint8Array): boolean;
  /** RTM_NEWNEIGH with NTF_USE: has the kernel ask whether a neighbour is (still) there, as a packet for it would; nothing where it knows, or was told for good. Throws ENODEV, EPERM … */
  solicit(ifindex: number, address: number | Uint8Array): void;
  /** RTM_GETLINK dump. */
  interfaces(): Interface[];
  /** Calls back (on the JavaScript thread, at most once in 10 ms) after links, addresses, routes, rules or neighbours changed. */
  watch(changed: () => void): void;
  close(): void;
}

/** What became of the lines handed to a {@link LogWriter}. */
export interface LogCounters {
  /** Bytes accepted and neither written nor lost. */
  readonly pending: number;
  /** Lines for which there was no room, or that could not be written; without notices. */
  readonly lost: number;
  /** Notices written. */
  readonly notices: number;
  /** The errno of the last line, 0: it was written. */
  readonly error: number;
}

/**
 * Writes lines to a descriptor on a thread of its own, which alone waits for whoever does not read, and which does not keep the
 * process from ending. A line that cannot be written is lost and counted; the next one is tried afresh.
 */
export interface LogWriter {
  /** Hands over a line, its end included, and never waits. False: no room. A notice tells of lost lines, and is none itself. */
  write(line: string, isNotice: boolean): boolean;
  /** Waits until everything is written or lost, at most `timeoutMs`; true: everything is. Blocks this thread. */
  drain(timeoutMs: number): boolean;
  counters(): LogCounters;
  /** What waits is still written; then its descriptor is closed. Every other call throws EBADF from then on. */
  close(): void;
}

export interface FastPathOptions {
  /** Elements of the maps. */
  readonly flows: number;
  readonly hops: number;
  readonly syns: number;
  readonly drops: number;
  /** Bytes of `struct settings` (native/bpf/settings.h). */
  readonly settings: Uint8Array;
  /** Maps that are there. */
  readonly flowsFd?: number;
  readonly hopsFd?: number;
  readonly countsFd?: number;
}

/** Descriptors, of maps and of programs. */
export interface LoadedFastPath {
  readonly flows: number;
  readonly hops: number;
  readonly counts: number;
  readonly links: number;
  readonly syns: number;
  readonly books: number;
  readonly drops: number;
  readonly tc: number;
  readonly xdp: number;
  /** Of a packet socket between interfaces: what `tc` will not take. */
  readonly tap: number;
}

export interface TestRun {
  /** As the program returned it: TC_ACT_*, XDP_*. */
  readonly verdict: number;
  readonly frame: Uint8Array;
  readonly duration: number;
}

export interface NativeAddon {
  /** `capacity`: bytes that may wait. Duplicates `fd`, whose flags stay as they are. */
  LogWriter: new (
    fd: number,
    capacity: number,
  ) => LogWriter;
  PacketSocket: new (options: PacketSocketOptions) => PacketSocket;
  RouteSocket: new () => RouteSocket;
  /**
   * Shares frames out among packet sockets of one network namespace (a fanout group, packet(7)), whole: the kernel puts fragments
   * together first. Each frame goes to the socket whose place in `fds` (1 to 256) `program` returns, modulo their number: classic BPF, as a
   * socket's filter is (io/steering.ts). That of one socket alone is not used.
   *
   * Until this returns each socket hears all frames, or those of another: their filters should take none. A socket of which nobody has a
   * descriptor any more leaves the group, and the last one gets its place, and frames that are not its own: so it returns a duplicate of each
   * (for `closeSync`), to be held until all have stopped. One that is closed by its owner meanwhile hears nothing, nor does another for it.
   * While two groups exist, fragments are put together for the younger one alone.
   *
   * EINVAL: one is no packet socket. With several it throws the system's error (EALREADY: one is in a group), which names the socket; those
   * before it are in the group then, and only closing takes them out. With one it throws nothing of the kind: without a group, fragments
   * come as they are.
   */
  fanOut(fds: readonly number[], program?: Uint32Array): number[];
  /**
   * Has a group of several sockets that {@link fanOut} made go by another program from now on: `fd` is one of its sockets, or its duplicate. Throws the
   * system's error, and changes nothing: EINVAL where it is in no such group, ENOMEM.
   */
  steer(fd: number, program: Uint32Array): void;
  /** Wakes the `receive` that waits on this eventfd. Any thread. EINVAL: the descriptor is none. */
  wake(wakeFd: number): void;
  /**
   * Memory that every thread, and every process given the descriptor, may map: memfd_create(2), sealed against
   * resizing, zeroed. `name` (1 to 249 bytes) shows in /proc/PID/fd. `bytes`: 1 to 2^32. Throws ENOMEM where it cannot be
   * mapped or exceeds the memory and swap there are, EFBIG where it exceeds `ulimit -f`.
   */
  createSharedMemory(name: string, bytes: number): { fd: number; buffer: ArrayBuffer };
  /**
   * Makes an empty file `bytes` long (1 to 2^32), zeroed and all of it there: no later store finds its file system full, which would end
   * the process. Throws ENOSPC where that is full now, ENOMEM and EFBIG as above.
   */
  allocateFile(fd: number, bytes: number): void;
  /**
   * Maps the memory behind a descriptor of this process (a worker maps what the main thread created): such memory, or a file on a tmpfs,
   * of this user's alone, made by {@link allocateFile}, which outlives the process. EINVAL: it is neither.
   */
  mapSharedMemory(fd: number): ArrayBuffer;
  /** Closes shared memory or a listening socket. EINVAL: the descriptor is neither, and stays open. */
  closeFd(fd: number): void;
  /**
   * A listening TCP socket, non-blocking; `host` an IPv4 or IPv6 address, `port` in host order, 0 for any. One on :: takes no
   * IPv4, so that 0.0.0.0 can be listened on beside it. The kernel caps `backlog` at net.core.somaxconn. Returns its descriptor.
   */
  listenTcp(host: string, port: number, backlog: number): number;
  /** Another descriptor of a listening socket: several threads then accept from one queue, and each closes its own. */
  duplicateFd(fd: number): number;
  /** A unix socket that receives datagrams at `path` (1 to 107 bytes), where nothing may be yet (EADDRINUSE). Returns its descriptor. */
  openDatagram(path: string): number;
  /**
   * Sends a datagram (1 to 65536 bytes) with copies of at most 253 listening sockets to whoever has opened `path`, an abstract name where
   * that begins with "@" (unix(7)). Never waits: EAGAIN where too many are unread, ECONNREFUSED or ENOENT where nobody is there.
   */
  sendDatagram(path: string, text: string, descriptors: readonly number[]): void;
  /** The next datagram of such a socket; whoever takes the descriptors closes them. EAGAIN: there is none. EINVAL: with other than listening sockets. */
  receiveDatagram(fd: number): { text: string; descriptors: number[] };
  /**
   * Takes the lock on the whole file behind a descriptor open for writing: an open file description lock (fcntl(2)), which the kernel
   * frees when the last copy of the descriptor and the last mapping of the file are gone, however its process ends. False where somebody else has it.
   */
  tryLockFile(fd: number): boolean;
  /** Gives such a lock back before the file is closed: what is mapped of it keeps it open. */
  unlockFile(fd: number): void;
  /** Whether somebody other than this open file holds such a lock. Takes none. */
  isFileLocked(fd: number): boolean;
  /**
   * What tells this network namespace from every other since the host has started, also from one that was removed, whose inode
   * number the next one gets (SO_NETNS_COOKIE). 0 where the kernel does not know, before Linux 5.14.
   */
  networkCookie(): bigint;
  /** Has the kernel kill this process (SIGKILL) when the thread that started it ends, however that goes and whatever this one is at (prctl(2)). */
  endWithParent(): void;
  /**
   * Starts this process's program anew, with no capabilities but those of `keep` that it has (by number, 0–63), and no new privileges, for
   * all threads and all that it starts: the same process, arguments, environment, standard streams and the descriptors `open` (at most 16). So it does not return, but where
   * root has no powers of its own (SECBIT_NOROOT). Throws the system's error where it cannot; then this thread alone may have fewer
   * (capabilities(7)).
   */
  confine(keep: readonly number[], open: readonly number[]): void;
  /**
   * Pins the calling thread, a worker's for itself, to processors (1 to 8192 of 0–8191). Those that this process may not use, or that are
   * not there, are left out; EINVAL where none is left. A thread that it starts later inherits that (sched_setaffinity(2)).
   */
  pinThread(cpus: readonly number[]): void;
  /**
   * Sends IPv4 packets of `bytes` (20–65535) each, which stand one behind the other in at most 1 MB, by the kernel's routing, whatever their source (raw(7)), up to the
   * interface's MTU, whatever ICMP errors have said. Returns how many it took. EPERM: without CAP_NET_RAW.
   */
  sendPackets(packets: ArrayBuffer, bytes: number): number;
  /** The processors that the calling thread may run on now, ascending. */
  threadCpus(): number[];
  /** The processors that a thread of this process can be pinned to, ascending: those of its cpuset (cpuset(7)), whatever this one is pinned to. */
  usableCpus(): number[];
  /**
   * Loads the compiled fast path (native/bpf) with libbpf.so.1: ENOENT where that is not there. Descriptors that are given stay the caller's, and
   * take the place of new maps. What the kernel refuses has its errno, and the last that libbpf has said of it.
   */
  loadFastPath(object: Uint8Array, options: FastPathOptions): LoadedFastPath;
  /** All of a BPF_F_MMAPABLE array, writable, its elements at multiples of eight bytes. */
  mapArray(map: number): ArrayBuffer;
  /** What tells a map from every other since the host has started. */
  mapId(map: number): number;
  /** BPF_OBJ_PIN: a file on a bpffs keeps what the descriptor is of, a map, program or link. EEXIST where there is one. */
  pinBpf(fd: number, path: string): void;
  /** BPF_OBJ_GET: a descriptor of what is pinned. */
  openPinned(path: string): number;
  /**
   * Has a program run at an interface's ingress for as long as the link lives, whose descriptor is returned: behind those that others have
   * attached, or before them with `isFirst` (`tcx`, Linux 6.6: EINVAL before), or in the driver, which takes one (`xdp`: EBUSY where there is one,
   * EOPNOTSUPP where the driver knows none).
   */
  linkProgram(program: number, ifindex: number, hook: 'tcx' | 'xdp', isFirst?: boolean): number;
  /** Another program in a link's place, without a packet that meets none. */
  updateLink(link: number, program: number): void;
  /** The interface of a link; 0 once that is gone, or the link detached. */
  linkedInterface(link: number): number;
  /** The program runs there no more, whoever else has the link, or a pin of it. Detached already: no error. */
  detachLink(link: number): void;
  /** Ids of the programs that stand at an interface's ingress by `tcx`, whoever's: EINVAL before Linux 6.6, EPERM without CAP_NET_ADMIN. */
  tcxPrograms(ifindex: number): number[];
  /** Descriptors, to be closed, of all links that a program (its id) has: EPERM without CAP_SYS_ADMIN. */
  openLinks(program: number): number[];
  /** The same as `tcx` for any kernel: cls_bpf on the clsact qdisc, which is made where it is not there (true). Takes the place of lb4's own. */
  attachClsact(program: number, ifindex: number): boolean;
  /** The qdisc stays. Nothing there is no error. */
  detachClsact(ifindex: number): void;
  /** The id of lb4's program there; 0: none. */
  clsactProgram(ifindex: number): number;
  /** The id of the program that an interface's driver runs; 0: none. */
  xdpProgram(ifindex: number): number;
  /**
   * Whether an interface's driver sends frames that XDP redirects to it; others lose them. Undefined where the kernel does not say (Linux 6.3
   * does, once XDP is known there).
   */
  takesRedirected(ifindex: number): boolean | undefined;
  /** The name of a program by its id; `program 7` for whoever may not ask (CAP_SYS_ADMIN). */
  programName(id: number): string;
  /** Writes an element of an array map, whole. Of a map of maps it is a descriptor; the system call waits until no program has the old one. */
  setElement(map: number, key: number, value: Uint8Array): void;
  /** A new array map of these bytes, elements of eight, for the place of another one in a map of maps (BPF_F_INNER_MAP). The descriptor is the caller's. */
  createArray(bytes: Uint8Array): number;
  /** The first `count` 64-bit numbers of an element of a per-CPU array, which has no fewer, each summed over all processors. */
  perCpuSums(map: number, key: number, count: number): number[];
  /** SO_ATTACH_BPF (socket(7)): a loaded program in the place of a socket's filter, which takes effect at once. EINVAL where it is none for sockets. */
  filterBy(socket: number, program: number): void;
  /** BPF_PROG_TEST_RUN: what a program does with a frame that came by an interface. `gsoSize` 0: no super-packet. `duration` of a run in ns. */
  testRun(program: number, frame: Uint8Array, ifindex: number, gsoSize: number, repeat: number): TestRun;
  /** Full one's complement sum (RFC 1071) of `length` bytes at `offset`, folded to 16 bits, not complemented, native order. */
  sum(buffer: ArrayBuffer, offset: number, length: number): number;
  /**
   * What `transmit` makes of an IPv4 packet that its next hop does not take whole (native/cutter.h), for tests to compare with
   * their own: TCP segments or UDP datagrams of `segment` bytes of payload (gso_size; 0: it is no super-packet), and fragments of at most
   * `mtu` bytes of whatever is larger. `partial`: its transport checksum is the pseudo-header's sum. Empty where the packet contradicts itself.
   */
  cut(packet: ArrayBuffer, segment: number, partial: boolean, mtu: number): ArrayBuffer[];
}

const require = createRequire(import.meta.url);
let addon: NativeAddon | undefined;

/** Loads the addon on first use: `lb4 check` and the unit tests of the core work without it. */
export function native(): NativeAddon {
  addon ??= loadAddon();
  return addon;
}

/** What mends an addon that is not there, or does not load; undefined: nothing on this host, and the error says what does. */
export const ADDON_MEND = IS_CHECKOUT ? 'make build' : undefined;

/** What a checkout has built goes before what came with the package (scripts/build-addon.sh). Throws an error that says what to do. */
function loadAddon(): NativeAddon {
  const file = [ownFile('build/Release/lb4.node'), ownFile('prebuilds', `linux-${arch}`, 'lb4.node')].find(existsSync);
  if (file === undefined) throw addonMissing(`the native addon is not built${IS_CHECKOUT ? '' : ` for linux-${arch} in this package`}`);
  try {
    return require(file) as NativeAddon;
  } catch (error) {
    const [reason] = messageOf(error).split('\n');
    throw addonMissing(`the native addon does not load (${reason})`, error);
  }
}

function addonMissing(what: string, cause?: unknown): Error {
  const advice = IS_CHECKOUT
    ? 'run `make build`'
    : 'packages have it for linux-x64 and linux-arm64 with glibc 2.34 or later; elsewhere run lb4 from a checkout, where `make build` builds it';
  return Object.assign(new Error(`${what}: ${advice}`, { cause }), { code: 'ERR_NATIVE_ADDON' });
}
