/** Programs that lb4 hides: they listen where a frontend is, and a packet mode's rules keep from them what clients send there. */
import { hiddenListeners } from '../rules/hidden.ts';
import { type Finding, type Host, warn } from './finding.ts';

export function listeners({ config }: Host): Finding[] {
  const hidden = hiddenListeners(config.frontends.map(({ name, listen }) => ({ name, ...listen })));
  return hidden.map(({ name, ip, port, text }) => {
    const what = `a program of this host listens at frontend ${name} (${text}), too: while lb4 runs, clients get to lb4's servers instead`;
    return warn('listener', what, `ss -ltnp 'src ${ip}:${port} or sport = :${port}'`);
  });
}
