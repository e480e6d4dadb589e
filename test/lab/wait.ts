/** Waiting for something to become true, with a limit and a message that says what did not. */

/** Milliseconds that something may take on a machine that is busy with other things, or emulated: a limit against hanging, no expectation. */
export const PATIENCE = Number(process.env['LB4_PATIENCE'] ?? 45_000);

export interface WaitOptions {
  /** What is awaited, for the error's message. */
  readonly what: string;
  /** Milliseconds before it is an error. */
  readonly timeout?: number;
  /** Milliseconds between two looks. */
  readonly every?: number;
}

/** Asks `probe` until it answers with something other than undefined or false, and returns that. */
export async function waitUntil<T>(
  probe: () => T | undefined | false | Promise<T | undefined | false>,
  { what, timeout = PATIENCE, every = 10 }: WaitOptions,
): Promise<T> {
  const end = performance.now() + timeout;
  for (;;) {
    const answer = await probe();
    if (answer !== undefined && answer !== false) return answer;
    if (performance.now() >= end) throw new Error(`waited ${timeout} ms in vain for ${what}`);
    await pause(every);
  }
}

export function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

/** `promise`, or an error naming `what` (as it is by then) when it takes longer than `timeout` milliseconds. */
export async function within<T>(promise: Promise<T>, timeout: number, what: string | (() => string)): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`waited ${timeout} ms in vain for ${typeof what === 'string' ? what : what()}`)), timeout);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
