/** What a command line says, as far as it matters before anything large is loaded (confine.ts); in earnest it is read by program.ts. */

const PACKET_MODES = ['-p', '--passthrough', '-d', '--dsr', '--inline'];
const FAN_OUT = '--fan-out';
const NO_RULES = '--no-rules';
const CONFIG = '--config';
/** Those of a running lb4 that take no value. */
export const FLAGS: readonly string[] = [...PACKET_MODES, FAN_OUT, NO_RULES, '--takeover'];
const DESCRIPTOR = /^\/(?:dev|proc\/self)\/fd\/([0-9]{1,9})$/;

export interface BalancerArguments {
  /** False: it will be refused, or is written in a way that is not understood here. */
  readonly isKnown: boolean;
  readonly isPacketMode: boolean;
  /** Firewall rules are lb4's to write. */
  readonly hasRules: boolean;
  readonly config: string | undefined;
  /** That the configuration is read from, where it is one that this process was started with. */
  readonly descriptor: number | undefined;
}

/** @param args as they were typed; those of lb4 itself, with no command */
export function balancerArguments(args: readonly string[]): BalancerArguments {
  const flags = new Set<string>();
  let [isKnown, config]: [boolean, string | undefined] = [true, undefined];
  for (let at = 0; at < args.length; at++) {
    const arg = args[at];
    if (arg === CONFIG) config = args[++at] ?? '';
    else if (arg.startsWith(`${CONFIG}=`)) config = arg.slice(CONFIG.length + 1);
    else if (FLAGS.includes(arg)) flags.add(arg);
    else isKnown = false;
  }
  const modes = [...PACKET_MODES, FAN_OUT].filter((mode) => flags.has(mode));
  const isPacketMode = modes.some((mode) => mode !== FAN_OUT);
  const number = DESCRIPTOR.exec(config ?? '')?.[1];
  return {
    isKnown: isKnown && config !== '' && modes.length <= 1,
    isPacketMode,
    hasRules: modes.length > 0 && !flags.has(NO_RULES),
    config,
    descriptor: number === undefined ? undefined : Number(number),
  };
}
