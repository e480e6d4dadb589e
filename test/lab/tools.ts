/** Firewall tools that do not do as they are told. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Lab } from './lab.ts';

export interface Tools {
  /** For LB4_IPTABLES. */
  readonly wrapper: string;
  /** While this file is there, nothing can be changed: somebody holds the lock. */
  readonly broken: string;
  /** While this file is there, every one of them hangs, and writes its pid there. */
  readonly hanging: string;
}

/** An iptables-legacy that can be spoilt. */
export function wrapTools(lab: Lab): Tools {
  const wrapper = join(lab.directory, 'wrapped');
  const [broken, hanging] = [join(lab.directory, 'broken'), join(lab.directory, 'hanging')];
  for (const name of ['', '-save', '-restore']) {
    const fails =
      name === '-restore' ? `[ ! -e ${broken} ] || { echo "Another app is currently holding the xtables lock." >&2; exit 4; }\n` : '';
    const hangs = `[ ! -e ${hanging} ] || { echo $$ >${hanging}; exec sleep 600; }\n`;
    writeFileSync(wrapper + name, `#!/bin/sh\n${hangs}${fails}exec iptables-legacy${name} "$@"\n`, { mode: 0o755 });
  }
  return { wrapper, broken, hanging };
}
