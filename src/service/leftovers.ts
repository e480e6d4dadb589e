/** What a packet mode that was killed left on this host, before proxy mode starts: the packet modes' own start looks after it. */
import { messageOf } from '../errors.ts';
import { deadHolder, forgetDeadHolder, lockHolder, nameOf } from '../io/namespace-lock.ts';
import type { Logger } from '../log.ts';
import { renderBalancerScript } from '../rules/render.ts';
import { runRules } from '../rules/run.ts';

/** Its rules drop what clients send to frontends: proxy mode would be ready, its servers up, and nothing would arrive. Never rejects. */
export async function clearLeftovers(log: Pick<Logger, 'info' | 'warn'>): Promise<void> {
  const other = lockHolder();
  if (other !== undefined) log.warn(`${nameOf(other)} runs here: where both have a frontend, its rules drop what clients send`);
  const dead = deadHolder();
  // With --no-rules they are the user's. Its connections end in any case, also where somebody has taken its lock away.
  if (dead === undefined || dead.rules === false) return forget(log);
  const who = `${nameOf(dead)} was killed here`;
  try {
    await removeLeftRules();
    forget(log);
    log.info(`${who}: the firewall rules that it left are removed`);
  } catch (error) {
    log.warn(
      `${who}, and its firewall rules, which may drop what clients send, stay: ${messageOf(error)}; mend: lb4 rules --remove --config=FILE`,
    );
  }
}

/** Takes away what any packet mode's rules have left. Throws as `runRules` does. */
export async function removeLeftRules(): Promise<void> {
  await runRules(renderBalancerScript({ mode: 'passthrough', frontends: [], returns: [] }), 'remove');
}

function forget(log: Pick<Logger, 'warn'>): void {
  try {
    forgetDeadHolder();
  } catch (error) {
    log.warn(`something that an lb4 in packet mode left here stays: ${messageOf(error)}; mend: lb4 rules --remove --config=FILE`);
  }
}
