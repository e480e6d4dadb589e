/** What bench/fou.ts and its guest agree on. */
export const ROUNDS = 5;
export const UNWRAPS = ['fou', 'bpf'] as const;
export const SETTINGS = ['default offloads', 'a packet a segment'] as const;
export type Setting = (typeof SETTINGS)[number];
