/** What the firewall rules of a balancer are made of. Addresses are dotted IPv4, ports 1–65535. */
export interface RulesInput {
  mode: RulesMode;
  /** What clients connect to. */
  frontends: { address: string; port: number }[];
  /** Whose answers come back to which of our addresses; used in passthrough only. */
  returns: { server: string; serverPort: number; source: string }[];
}

export type RulesMode = 'passthrough' | 'dsr';

export type RulesAction = 'install' | 'remove' | 'status';
