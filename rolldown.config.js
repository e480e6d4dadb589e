/**
 * dist/src, with all of npm that it needs, into dist/bundle: five files that Node is started with, and of the first one the parts that it
 * loads when they are needed. They find each other by `../ROOM/FILE.js` from any directory here, as they do in dist/src. Whoever
 * installs lb4 needs no other package. Names stay, so that a stack trace says something.
 */
import { resolve } from 'node:path';
import { thirdParty } from './scripts/third-party.js';

const licences = thirdParty('dist/THIRD-PARTY.md');

/** What all commands, and those that read the configuration, cannot be loaded without: a part each. A file takes as long to find as to read. */
const PARTS = { common: 'cli/command-line', config: 'cli/check' };
/** What `lb4 --version` needs, and a balancer before all else. Not in a part with main.js, which waits for the others: they would wait for it. */
const FIRST = ['own-files', 'cli/confine'];

/** @returns the part that a module goes into; null: it is left to rolldown */
function partOf(id, graph) {
  if (FIRST.some((name) => needs(name, graph).has(id))) return null;
  return Object.keys(PARTS).find((part) => needs(PARTS[part], graph).has(id)) ?? null;
}

function needs(name, graph) {
  const found = new Set([resolve(`dist/src/${name}.js`)]);
  for (const id of found) for (const other of graph.getModuleInfo(id)?.importedIds ?? []) found.add(other);
  return found;
}

const bundle = (name, from, minify) => ({
  input: { [name]: `dist/src/${from}.js` },
  platform: 'node',
  preserveEntrySignatures: 'allow-extension',
  logLevel: 'warn',
  plugins: [licences],
  output: {
    dir: 'dist/bundle',
    entryFileNames: '[name].js',
    chunkFileNames: 'main/[name].js',
    minify,
    codeSplitting: { groups: [{ name: partOf, debugName: 'parts' }], includeDependenciesRecursively: false },
  },
});

const small = { compress: true, mangle: false, codegen: { removeWhitespace: true } };
/** As it was written: its speed has been measured so. */
const asWritten = { ...small, compress: false };

export default [
  bundle('main/main', 'main', small),
  ...['engine/worker', 'engine/pcap-process', 'proxy/worker', 'service/rank-worker'].map((name) => bundle(name, name, asWritten)),
];
