/** Programs that lb4 hides: they listen where a frontend is, and a packet mode's rules keep from them what clients send there. */
import { hiddenListeners } from '../rules/hidden.ts';
import { type Finding, type Host, warn } from './finding.ts';

export function listeners({ config }: Host): Finding[] {
  const hidden = hiddenListeners(config.frontends.map(({ name, listen, backend: { protocol } }) => ({ name, ...listen, protocol })));
  return hidden.map(({ name, ip, port, text, protocol }) => {
    const what = `a program of this host listens at frontend ${name} (${text}), too: while lb4 runs, clients get to lb4's servers instead`;
    return warn('listener', what, `ss -l${protocol.name.slice(0, 1)}np 'src ${ip}:${port} or sport = :${port}'`);
  });
}
