/** A server that takes no connection: its backlog is full, so that the kernel drops further SYNs. */
import { connect } from 'node:net';
import { native } from '../../src/io/native.ts';
import { type Backend, cleanUp, freePort, pause } from './proxy-lab.ts';

export async function deaf(): Promise<Backend> {
  const port = await freePort();
  const fd = native().listenTcp('127.0.0.1', port, 1);
  cleanUp(() => native().closeFd(fd));
  for (let i = 0; i < 4; i++) {
    const filler = connect(port, '127.0.0.1');
    filler.on('error', () => {});
    cleanUp(() => filler.destroy());
  }
  await pause(50);
  return { host: '127.0.0.1', port, sockets: [], close: async () => {} };
}
