/** Before each file of unit tests: what is waited for may come late on a busy machine. One second is vitest's own limit. */
import { vi } from 'vitest';
import { PATIENCE } from './wait.ts';

const waitFor = vi.waitFor.bind(vi);
vi.waitFor = (probe, options = PATIENCE) => waitFor(probe, options);
