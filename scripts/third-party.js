// The licences of what is in lb4's package beside lb4: of what rolldown has put into its files, and of what the addon and the fast path
// are compiled with.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, sep } from 'node:path';

/** Compiled in: headers that leave something behind in the addon. */
const HEADERS = ['node-addon-api', 'node-api-headers'];

const COMPILED = `The addon holds parts of GCC's libstdc++ and libgcc (GPL-3.0 with the GCC Runtime Library Exception, which lets them go into programs under
any licence). The programs for kernels, native/bpf/*.o, are compiled with the headers of libbpf (LGPL-2.1 or BSD-2-Clause, here
the latter; Copyright the libbpf authors).
`;

/** A plugin of rolldown: writes `file` with a part for each package that modules came from. One that has no licence in it ends the build. */
export function thirdParty(file) {
  const packages = new Set(HEADERS.map((name) => join(process.cwd(), 'node_modules', name)));
  return {
    name: 'third-party',
    generateBundle(_options, bundle) {
      const modules = Object.values(bundle).flatMap(({ moduleIds = [] }) => moduleIds);
      for (const id of modules) {
        const directory = packageOf(id);
        if (directory !== undefined) packages.add(directory);
      }
    },
    writeBundle() {
      const parts = [...packages].map(describe).toSorted();
      writeFileSync(file, `# Third parties\n\nWhat is in this package beside lb4.\n\n${COMPILED}\n${parts.join('\n')}`);
    },
  };
}

/** /x/node_modules/@scope/name of /x/node_modules/@scope/name/lib/file.js; undefined of lb4's own. */
function packageOf(id) {
  return new RegExp(`^\0?(.*\\${sep}node_modules\\${sep}(?:@[^\\${sep}]+\\${sep})?[^\\${sep}]+)\\${sep}`).exec(id)?.[1];
}

function describe(directory) {
  const { name, version, license } = JSON.parse(readFileSync(join(directory, 'package.json'), 'utf8'));
  const texts = readdirSync(directory).filter((file) => /^(licen[cs]e|copying|notice)\b/i.test(file));
  if (texts.length === 0) throw new Error(`${name} has no file with its licence: it cannot go into the package`);
  const text = texts.map((file) => readFileSync(join(directory, file), 'utf8').trim()).join('\n\n');
  return `## ${name} ${version} (${license})\n\n${text.replaceAll(/^/gm, '    ').replaceAll(/ +$/gm, '')}\n`;
}
