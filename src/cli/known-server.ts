/** Servers that `--for` may name. */
import type { Config } from '../config/model.ts';
import { UsageError } from '../errors.ts';
import { serverAddresses } from '../rules/from-config.ts';

/** Throws where `--for` names no server of the file. @param others what else it may name */
export function assertServer(address: string, config: Config, others = ''): void {
  const known = serverAddresses(config);
  if (known.includes(address)) return;
  const shown = known.slice(0, 10).join(', ') + (known.length > 10 ? ` and ${known.length - 10} more` : '');
  throw new UsageError(`--for ${address}: no backend has this server; there are: ${shown || 'none'}${others}`);
}
