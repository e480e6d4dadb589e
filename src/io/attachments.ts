/**
 * Where the fast path stands: at the ingress of interfaces, by tcx (Linux 6.6), by cls_bpf before that, and in drivers by XDP. Links are
 * pinned, so that they outlive the process; another lb4 that comes puts its own program in their place.
 */
import { closeSync } from 'node:fs';
import { messageOf } from '../errors.ts';
import { eachOf } from './each.ts';
import type { FastPath } from './fast-path.ts';
import { type Interface, native } from './native.ts';
import { hasOwnClsact, leaveClsact, linkPins, openPin, pin, pinAtClsact, removeLink, standsAtClsact, unpin } from './pins.ts';
import { XdpLinks } from './xdp-links.ts';

export type Hook = 'tc' | 'xdp';

/** Which hooks it is to have: `auto` is XDP where a driver of hardware has it. tc stands everywhere beside it, for what XDP does not take. */
export type Wanted = 'auto' | 'tc' | 'xdp';

/** Of whose frames the master is asked, not they themselves. */
const BRIDGES = ['bridge', 'bond', 'team', 'openvswitch'];
const MAC_BYTES = 6;
/** Another program is there: in the driver, or in its generic place. */
const TAKEN = ['EBUSY', 'EEXIST'];

interface Place {
  readonly link: Interface;
  readonly hook: Hook;
}

interface Attachment extends Place {
  /** Of the link; undefined: cls_bpf. */
  readonly fd: number | undefined;
  /** Of cls_bpf: the qdisc goes with it. */
  readonly isQdiscOurs: boolean;
}

export class Attachments {
  readonly #fastPath: FastPath;
  readonly #wanted: Wanted | 'off';
  readonly #told: (message: string) => void;
  readonly #isInline: boolean;
  readonly #xdpLinks: XdpLinks;
  /** By hook and interface's index. */
  readonly #attached = new Map<string, Attachment>();
  /** Where it stood until somebody took it away. */
  readonly #lost = new Map<string, Place>();
  /** Interfaces as they were when it last followed them. */
  #seen = '';
  /** Between interfaces: those that there are, and the names of those that clients come by. */
  #ports: readonly Interface[] = [];
  #fronts: ReadonlySet<string> = new Set();
  /** What has been told, once as long as it goes on: since interfaces were last followed, and until then. */
  #said = new Set<string>();
  #saidBefore: ReadonlySet<string> = new Set();

  /**
   * @param wanted `off`: what another lb4 has left is taken away, since flows are still in its maps
   * @param isInline the packet socket's filter is to know where tc stands
   */
  constructor(fastPath: FastPath, wanted: Wanted | 'off', told: (message: string) => void, isInline = false) {
    this.#isInline = isInline;
    this.#fastPath = fastPath;
    this.#xdpLinks = new XdpLinks(fastPath.programs.links);
    this.#wanted = wanted;
    this.#told = told;
  }

  /**
   * Has it stand at all of these interfaces that it can stand at, and at no others.
   * @param fronts between interfaces: the names of those that clients come by
   */
  follow(interfaces: readonly Interface[], fronts: readonly string[] = []): void {
    // Most notices are about neighbours and routes.
    const seen = JSON.stringify([fronts, ...interfaces.map(({ index, name, kind, master, mac }) => [index, name, kind, master, ...mac])]);
    if (seen === this.#seen) return;
    this.#seen = seen;
    this.#fronts = new Set(fronts);
    this.#saidBefore = this.#said;
    this.#said = new Set();
    this.#followAll(interfaces);
    // What is not so any more, or was of an interface that is gone, is told again where it comes again.
    this.#saidBefore = new Set();
  }

  #followAll(interfaces: readonly Interface[]): void {
    const masters = new Map(interfaces.map((link) => [link.index, link]));
    const able = interfaces.filter(({ mac, master }) => isEthernet(mac) && !BRIDGES.includes(masters.get(master)?.kind ?? ''));
    const wanted = new Map(able.flatMap((link) => this.#hooksOf(link).map((hook) => [keyOf(hook, link.index), { link, hook }] as const)));
    for (const [key, attachment] of this.#attached) if (!wanted.has(key)) this.#try(() => this.#detach(key, attachment));
    for (const key of this.#lost.keys()) if (!wanted.has(key)) this.#lost.delete(key);
    // Their addresses may be others by now.
    for (const [key, { link }] of wanted) {
      const attachment = this.#attached.get(key);
      if (attachment !== undefined) this.#attached.set(key, { ...attachment, link });
    }
    this.#announceAll();
    // A dead lb4's.
    for (const name of linkPins()) if (!wanted.has(name)) this.#try(() => removeLink(name));
    for (const { index } of interfaces) if (!wanted.has(keyOf('tc', index))) this.#try(() => standsAtClsact(index) && leaveClsact(index));
    for (const [key, { link, hook }] of wanted) if (!this.#attached.has(key) && !this.#lost.has(key)) this.#attach(key, link, hook);
    this.#ports = this.#isInline ? able : [];
    this.#tellTap();
  }

  /** Between interfaces: what tc takes at a port the packet socket is not to have, and all else it is. One without a place keeps no other from its own. */
  #tellTap(): void {
    for (const link of this.#ports)
      this.#try(() => this.#xdpLinks.set(link, takesRedirected(link), this.#attached.has(keyOf('tc', link.index)), this.#isFront(link)));
  }

  /** Where it stood and does not any more, as people say it: `tc of eth0`. */
  missing(): string[] {
    this.#announceAll();
    for (const [key, attachment] of this.#attached) {
      if (isThere(attachment)) continue;
      this.#lost.set(key, attachment);
      // Whoever puts it back says what is in the way.
      attempted(() => this.#detach(key, attachment));
    }
    this.#tellTap();
    return [...this.#lost.values()].map(({ hook, link }) => `${hook} of ${link.name}`);
  }

  /** Puts it back where it stands no more. Throws where it cannot. */
  repair(): void {
    // One that cannot be put back (somebody else's program is there) must not keep the others from it.
    eachOf(this.#lost, ([key, { link, hook }]) => {
      this.#stand(key, link, hook);
      this.#lost.delete(key);
      this.#tellTap();
    });
  }

  /** What the next lb4 would not find of it, as people say it: somebody has taken the pins away, though all goes on as it is. */
  unpinned(): string[] {
    const places = [...this.#attached].filter(([key, one]) => !isPinned(key, one)).map(([, { hook, link }]) => `${hook} of ${link.name}`);
    return [...this.#fastPath.unpinned().map((name) => `its ${name}`), ...places];
  }

  /** Pins that anew. Throws where it cannot. */
  pinAgain(): void {
    const places = [...this.#attached].filter(([key, one]) => !isPinned(key, one));
    const acts = places.map(([key, { fd, link, isQdiscOurs }]) => () => {
      if (fd === undefined) pinAtClsact(this.#fastPath.programs.tc, link.index, isQdiscOurs);
      else pin(fd, key);
    });
    eachOf([() => this.#fastPath.pinAgain(), ...acts], (act) => act());
  }

  /** Where it stands: by hook, names of interfaces. */
  names(hook: Hook): string[] {
    return [...this.#attached.values()].filter((one) => one.hook === hook).map(({ link }) => link.name);
  }

  /** @param keep it goes on standing there, for the next lb4. Throws the first error of those that are not taken away wholly, at the end */
  close(keep: boolean): void {
    eachOf([...this.#attached], ([key, attachment]) => {
      this.#attached.delete(key);
      if (!keep) this.#detach(key, attachment);
      else if (attachment.fd !== undefined) closeSync(attachment.fd);
    });
  }

  /** Nobody tells when a driver takes redirected frames no more: a veth, whose peer is somewhere else. */
  #announceAll(): void {
    for (const { hook, link } of this.#attached.values()) if (hook === 'xdp') this.#try(() => this.#announce(link));
  }

  #announce(link: Interface): void {
    const takes = takesRedirected(link);
    this.#xdpLinks.set(link, takes, this.#isInline && this.#attached.has(keyOf('tc', link.index)), this.#isFront(link));
    if (!takes) this.#tellOnce(`what leaves by ${link.name} goes by tc, not by XDP: it takes no redirected frames${peerOf(link)}`);
  }

  #isFront({ name }: Interface): boolean {
    return this.#fronts.has(name);
  }

  #tellOnce(message: string): void {
    if (!this.#said.has(message) && !this.#saidBefore.has(message)) this.#told(message);
    this.#said.add(message);
  }

  /** What fails is told once, and keeps nothing else from being done. */
  #try(act: () => void): void {
    try {
      act();
    } catch (error) {
      this.#tellOnce(`the fast path: ${messageOf(error)}`);
    }
  }

  #hooksOf({ kind }: Interface): Hook[] {
    if (this.#wanted === 'off') return [];
    const isHardware = kind === '';
    return this.#wanted === 'xdp' || (this.#wanted === 'auto' && isHardware) ? ['tc', 'xdp'] : ['tc'];
  }

  /** What cannot be had is told once; the packets go up. */
  #attach(key: string, link: Interface, hook: Hook): void {
    try {
      this.#stand(key, link, hook);
    } catch (error) {
      // Many drivers know no XDP.
      const isExpected = hook === 'xdp' && this.#wanted === 'auto' && (error as NodeJS.ErrnoException).code === 'EOPNOTSUPP';
      const message = `the fast path does not stand at ${hook} of ${link.name}: ${obstacleOf(error, link, hook)}`;
      if (!isExpected) this.#tellOnce(message);
    }
  }

  #stand(key: string, link: Interface, hook: Hook): void {
    const { programs } = this.#fastPath;
    const adopted = this.#adopted(key, link, hook);
    const fd = adopted ?? linked(programs[hook], link, hook, this.#isInline);
    try {
      if (hook === 'xdp') this.#announce(link);
      // Never anew: a kill between the old pin and the new one would end it.
      if (fd !== undefined && adopted === undefined) pin(fd, key);
    } catch (error) {
      if (fd !== undefined) attempted(() => this.#end(key, fd));
      throw error;
    }
    this.#attached.set(key, { link, hook, fd, isQdiscOurs: fd === undefined && hasOwnClsact(link.index) });
  }

  /** The link that another lb4 has left, with our program in it. */
  #adopted(key: string, { index }: Interface, hook: Hook): number | undefined {
    const fd = openPin(key);
    if (fd === undefined) return undefined;
    const program = this.#fastPath.programs[hook];
    if (native().linkedInterface(fd) === index && attempted(() => native().updateLink(fd, program))) return fd;
    closeSync(fd);
    return undefined;
  }

  #detach(key: string, { link, hook, fd }: Attachment): void {
    this.#attached.delete(key);
    // Between interfaces nothing comes up from there until it is told again (#tellTap).
    if (hook === 'xdp' || this.#isInline) this.#xdpLinks.delete(link.index);
    if (fd === undefined) {
      leaveClsact(link.index);
      return;
    }
    this.#end(key, fd);
  }

  /** Detached first: it may be pinned in another mount namespace, too, or its pin stay. */
  #end(key: string, fd: number): void {
    eachOf([() => native().detachLink(fd), () => unpin(key), () => closeSync(fd)], (act) => act());
  }
}

function takesRedirected({ index }: Interface): boolean {
  return native().takesRedirected(index) ?? true;
}

/** The loopback's address is zero. */
function isEthernet(mac: Uint8Array): boolean {
  return mac.length === MAC_BYTES && mac.some((byte) => byte !== 0);
}

function attempted(act: () => unknown): boolean {
  try {
    act();
    return true;
  } catch {
    return false;
  }
}

function keyOf(hook: Hook, index: number): string {
  return `${hook}-${index}`;
}

/**
 * A link's descriptor; undefined: it stands there by cls_bpf, on a kernel that has no tcx.
 * @param isFirst before what others have attached. Between interfaces: what the packet socket does not have since tc takes it must come to tc
 */
function linked(program: number, { index }: Interface, hook: Hook, isFirst: boolean): number | undefined {
  try {
    return native().linkProgram(program, index, hook === 'tc' ? 'tcx' : 'xdp', isFirst);
  } catch (error) {
    if (hook === 'xdp' || (error as NodeJS.ErrnoException).code !== 'EINVAL') throw error;
    const isQdiscOurs = native().attachClsact(program, index);
    try {
      pinAtClsact(program, index, isQdiscOurs);
    } catch (failure) {
      // What has no mark nobody takes away.
      leaveClsact(index);
      throw failure;
    }
    return undefined;
  }
}

function isThere({ link, fd }: Attachment): boolean {
  return fd === undefined ? native().clsactProgram(link.index) !== 0 : native().linkedInterface(fd) === link.index;
}

/** Whether its pin is there, and stands for the same interface. */
function isPinned(key: string, { link, fd }: Attachment): boolean {
  if (fd === undefined) return standsAtClsact(link.index);
  const pinned = openPin(key);
  if (pinned === undefined) return false;
  try {
    return native().linkedInterface(pinned) === native().linkedInterface(fd);
  } finally {
    closeSync(pinned);
  }
}

function obstacleOf(error: unknown, { index }: Interface, hook: Hook): string {
  const { code = '' } = error as NodeJS.ErrnoException;
  if (hook !== 'xdp' || !TAKEN.includes(code)) return messageOf(error);
  try {
    // Its name is for CAP_SYS_ADMIN to ask.
    const program = native().xdpProgram(index);
    return `program ${program} is there already, and an interface has one: bpftool prog show id ${program}`;
  } catch {
    return messageOf(error); // it has just gone
  }
}

/** Why a veth does not: veth_set_xdp_features() of the kernel. */
function peerOf({ kind }: Interface): string {
  return kind === 'veth' ? ' (a veth does where its peer has GRO or XDP on: ethtool -K PEER gro on)' : '';
}
