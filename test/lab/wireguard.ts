/** WireGuard between two namespaces, in user space (wireguard-go): the kernel may be without. */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Namespace } from './lab.ts';

interface End {
  readonly namespace: Namespace;
  /** Of the tunnel's own network, a /24. */
  readonly address: string;
  /** Where the other one is to be found, ADDRESS:PORT; a port alone: it calls, and is answered there. */
  readonly endpoint?: string;
  readonly port?: number;
}

/** Brings both ends up. They speak when one of them has something to say. */
export async function tunnel(one: End, other: End): Promise<void> {
  const [own, theirs] = [keyPair(), keyPair()];
  await Promise.all([start(one, own.secret, theirs.open, other.address), start(other, theirs.secret, own.open, one.address)]);
}

function keyPair(): { secret: string; open: string } {
  const secret = execFileSync('wg', ['genkey'], { encoding: 'latin1' }).trim();
  return { secret, open: execFileSync('wg', ['pubkey'], { encoding: 'latin1', input: secret }).trim() };
}

async function start({ namespace, address, endpoint, port }: End, secret: string, peer: string, allowed: string): Promise<void> {
  const file = join(namespace.lab.directory, `${namespace.label}-wg.conf`);
  const own = `[Interface]\nPrivateKey = ${secret}\n${port === undefined ? '' : `ListenPort = ${port}\n`}`;
  writeFileSync(
    file,
    `${own}[Peer]\nPublicKey = ${peer}\nAllowedIPs = ${allowed}/32\n${endpoint === undefined ? '' : `Endpoint = ${endpoint}\n`}`,
  );
  // Its control socket has one place on a host, /run/wireguard: here a directory of its own. And it holds no pipe of the shell's, whose end is
  // what the lab waits for before it ends the rest.
  const steps = [
    'mount -t tmpfs tmpfs /run && mkdir /run/wireguard && { wireguard-go -f wg0 </dev/null >/dev/null 2>&1 & }',
    'until wg show wg0 >/dev/null 2>&1; do sleep 0.05; done',
    `wg setconf wg0 ${file} && ip address add ${address}/24 dev wg0 && ip link set wg0 up && echo is up && wait`,
  ];
  await namespace.start(['unshare', '--mount', 'sh', '-c', steps.join('\n')]).line(/^is up$/);
}
