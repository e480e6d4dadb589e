// package.json of the npm package: what npm has to know of it. No dependency (all that lb4 needs is in its files, rolldown.config.js) and no
// script; the packages of `io = "pcap"` are compiled at their installation, so whoever wants them installs them (docs/operations.md).
import { readFileSync } from 'node:fs';

const KEPT = ['name', 'version', 'description', 'license', 'type', 'os', 'engines', 'bin', 'man'];

const own = JSON.parse(readFileSync('package.json', 'utf8'));
const kept = Object.fromEntries(KEPT.map((key) => [key, own[key]]));
const optional = Object.keys(own.optionalDependencies).map((name) => [name, { optional: true }]);
const published = { ...kept, peerDependencies: own.optionalDependencies, peerDependenciesMeta: Object.fromEntries(optional) };

process.stdout.write(`${JSON.stringify(published, undefined, 2)}\n`);
