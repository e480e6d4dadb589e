/** A worker thread of the proxy: accepts, connects and copies. The main thread (proxy.ts) tells it what. */
import { parentPort, workerData } from 'node:worker_threads';
import { memoryOf } from './memory.ts';
import type { FromWorker, ToWorker, WorkerData } from './messages.ts';
import { Traffic } from './traffic.ts';

const { memory, worker, assignment } = workerData as WorkerData;
const port = parentPort!;
const tell = (message: FromWorker) => port.postMessage(message);
const traffic = new Traffic(memoryOf(memory, worker), tell);

// Node would print them, and wait where nobody reads.
process.removeAllListeners('warning');
process.on('warning', ({ name, message }) => tell({ type: 'warn', fields: { name }, message }));

port.on('message', (message: ToWorker) => {
  if (message.type === 'stop') return traffic.stop(message.graceMs, () => port.close());
  if (message.type === 'pulse') return tell({ type: 'answer', flows: [], ended: 0 });
  if (message.type === 'list') return tell({ type: 'answer', flows: traffic.flows(message.query, message.limit), ended: 0 });
  if (message.type === 'end') return tell({ type: 'answer', flows: [], ended: traffic.end(message.query) });
  traffic.apply(message.assignment);
  tell({ type: 'applied' });
});
traffic.apply(assignment);
tell({ type: 'applied' });
