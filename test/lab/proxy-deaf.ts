/** A server that takes no connection: its backlog is full, so that the kernel drops further SYNs. */
import { connect } from 'node:net';
import { native } from '../../src/io/native.ts';
import { type Backend, cleanUp, freePort, waitUntil } from './proxy-lab.ts';

export async function deaf(): Promise<Backend> {
  const port = await freePort();
  const fd = native().listenTcp('127.0.0.1', port, 1);
  cleanUp(() => native().closeFd(fd));
  let open = 0;
  for (let i = 0; i < 4; i++) {
    const filler = connect(port, '127.0.0.1', () => open++);
    filler.on('error', () => {});
    cleanUp(() => filler.destroy());
  }
  // It queues one more than its backlog (listen(2), sk_acceptq_is_full).
  await waitUntil(() => open >= 2, { what: 'the backlog to be full' });
  return { host: '127.0.0.1', port, sockets: [], close: async () => {} };
}
