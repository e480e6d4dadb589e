/**
 * dist/src, with all of npm that it needs, into dist/bundle: five files that Node is started with, and of the first one the parts that it
 * loads when they are needed. They find each other by `../ROOM/FILE.js` from any directory here, as they do in dist/src. Whoever
 * installs lb4 needs no other package. Names stay, so that a stack trace says something.
 */
import { thirdParty } from './scripts/third-party.js';

const licences = thirdParty('dist/THIRD-PARTY.md');

const bundle = (name, from, minify) => ({
  input: { [name]: `dist/src/${from}.js` },
  platform: 'node',
  logLevel: 'warn',
  plugins: [licences],
  output: {
    dir: 'dist/bundle',
    entryFileNames: '[name].js',
    chunkFileNames: 'main/[name].js',
    minify,
  },
});

const small = { compress: true, mangle: false, codegen: { removeWhitespace: true } };
/** As it was written: its speed has been measured so. */
const asWritten = { ...small, compress: false };

export default [
  bundle('main/main', 'main', small),
  ...['engine/worker', 'engine/pcap-process', 'proxy/worker', 'service/rank-worker'].map((name) => bundle(name, name, asWritten)),
];
