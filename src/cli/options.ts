/** What several commands take. */
import type { PacketMode } from '../config/modes.ts';
import { UsageError } from '../errors.ts';

/** The configuration, where none is named. */
export const DEFAULT_CONFIG = 'config.toml';

/** The packet mode of a command line; passthrough unless told. Throws UsageError for both. */
export function modeOf({
  passthrough,
  dsr,
}: {
  readonly passthrough?: boolean | undefined;
  readonly dsr?: boolean | undefined;
}): PacketMode {
  if (passthrough && dsr) throw new UsageError('--passthrough and --dsr exclude each other');
  return dsr ? 'dsr' : 'passthrough';
}
