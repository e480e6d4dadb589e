/** A proxy for the test of descriptors running out: runs the plan given, tells what it is told. Compiled by proxy-setup.ts. */
import { prepare } from '../../dist/src/balance/index.js';
import { Proxy } from '../../dist/src/proxy/proxy.js';

const { frontends, backends } = JSON.parse(process.argv[2]);
await Proxy.start({
  // Shared memory does not cross processes as JSON: choices are prepared here.
  plan: { frontends, backends: backends.map((one) => ({ ...one, choice: prepare(one.choice.scheduler, one.choice.candidates) })) },
  workers: 1,
  signal: (server, reason) => console.log('signal', server, reason),
  failed: (error) => console.log('failed', error),
  log: { warn: (fields, message) => console.log('warn', message, fields) },
});
console.log('ready');
