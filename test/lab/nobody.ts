/** lb4 as a user who is not root. */
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { configuration, LB4, type Settings, writeConfiguration } from './balancer.ts';
import { type Namespace, ROOT } from './lab.ts';
import type { Running } from './processes.ts';

export const NOBODY = 65_534;

interface Rights {
  /** As setpriv has them ("net_raw"); none others. */
  readonly capabilities?: readonly string[];
  /** What root does first, in the shell: mounts go with lb4. */
  readonly prepared?: string;
}

/**
 * Starts lb4 as `nobody`. A checkout or a Node.js under /root is out of its reach: in a mount namespace of its own, which goes with it, it
 * sees them in the lab's directory.
 */
export function launchAsNobody(namespace: Namespace, settings: Settings, rights: Rights = {}, ...args: readonly string[]): Running {
  const { directory } = namespace.lab;
  const { capabilities = [], prepared = ':' } = rights;
  const file = writeConfiguration(namespace, configuration(settings));
  const [checkout, node] = [join(directory, 'checkout'), join(directory, 'node')];
  chmodSync(directory, 0o755);
  mkdirSync(checkout, { recursive: true });
  writeFileSync(node, '');
  const lb4 = LB4.startsWith(ROOT) ? join(checkout, relative(ROOT, LB4)) : LB4;
  const only = ['-all', ...capabilities.map((name) => `+${name}`)].join();
  const user = [`--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups'];
  const sets = ['bounding-set', 'inh-caps', 'ambient-caps'].map((set) => `--${set}=${only}`);
  const command = `mount --bind "$1" "$2"; mount --bind "$3" "$4"; shift 4; ${prepared}; exec setpriv "$@"`;
  const mounting = ['unshare', '--mount', 'sh', '-ec', command, 'sh', ROOT, checkout, process.execPath, node];
  return namespace.start([...mounting, ...user, ...sets, node, lb4, ...args, `--config=${file}`]);
}
