/** A proxy for the test of descriptors running out: runs the plan given, tells what it is told. Compiled by proxy-setup.ts. */
import { Proxy } from '../../dist/src/proxy/proxy.js';

await Proxy.start({
  plan: JSON.parse(process.argv[2]),
  workers: 1,
  trouble: (server, reason) => console.log('trouble', server, reason),
  failed: (error) => console.log('failed', error),
  log: { warn: (fields, message) => console.log('warn', message, fields) },
});
console.log('ready');
