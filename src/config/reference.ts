/** docs/configuration.md, rendered from the schema (`npm run docs`; a unit test fails when the file differs). */
import { z } from 'zod';
import { MAX_MIB } from './read/file.ts';
import { MOST_PARTS } from './read/parts.ts';
import { needsRestart } from './restart.ts';
import { fileSchema } from './schema/file.ts';
import { ADDRESS, keyFacts } from './schema/key.ts';
import { GOOD_NAME } from './schema/names.ts';
import { core } from './schema/path.ts';

const HEAD = `# Configuration

<!-- Made from src/config/schema/ by \`npm run docs\`. Do not edit. -->

lb4 reads one TOML file: \`--config=FILE\`, or without it \`lb4.toml\` in the working directory, or, where there is none, Convey's \`config.toml\`. A file for Convey 0.3.5 works as it is;
keys marked *Convey* come from there, those marked *lb4* are lb4's own. \`lb4 check FILE\`
reports every mistake at once:

    lb4.toml:12:9: frontends.web.listen_addr: "foo:80" is a hostname; allowed: ${ADDRESS}

A file has at most ${MAX_MIB} MiB, and at most ${MOST_PARTS.toLocaleString('en')} keys, tables and values. A pipe, \`--config=<(…)\`, is read once, at the start: a reload wants a regular file.

Unknown keys are warnings: lb4 names them, with the table that they belong to where there is one, and starts all the same; \`lb4 check --strict\` refuses them. Not so a key that
says who may connect (\`allow\`, \`deny\`, the limits of a source, \`deny_action\`, \`dry_run\`, \`respect_firewall\`): in a wrong table, or misspelt in the right one, it is an error, since ignored it would
let in whom it is to keep out. Times are in seconds, and decimals are welcome. \`NAME\` is yours to choose: ${GOOD_NAME}.

One file serves all modes: none minds the keys of another, but for those that say so: \`source_addrs\` is passthrough's alone, and proxy mode takes no \`protocol\` but TCP, no
\`nat\` and no \`affinity\`. \`lb4 check\` alone checks what all modes ask, with \`--passthrough\`, \`--dsr\`, \`--inline\`, \`--fan-out\` or \`--proxy\` also what that mode asks beyond: IPv4 addresses only, and in DSR a
server's port equal to its frontend's.

\`\`\`toml
`;

/** The whole page. `example` is the text of lb4.toml. */
export function renderReference(example: string): string {
  return `${HEAD}${example.trim()}\n\`\`\`\n${section(fileSchema, '')}`;
}

interface Row {
  readonly name: string;
  readonly schema: z.core.$ZodType;
}

function section(table: z.core.$ZodType, path: string): string {
  const rows = Object.entries(shapeOf(table)).map(([name, schema]): Row => ({ name, schema }));
  const leaves = rows.filter(({ schema }) => !isTable(schema));
  const nested = rows.filter(({ schema }) => isTable(schema));
  return leafTable(leaves, path) + nested.map((row) => nestedSection(row, path)).join('');
}

function nestedSection({ name, schema }: Row, path: string): string {
  const inner = core(schema);
  const here = path === '' ? name : `${path}.${name}`;
  const [title, table] = inner instanceof z.ZodRecord ? [`${here}.NAME`, inner.valueType] : [here, inner];
  const facts = keyFacts.get(schema);
  return `\n## \`[${title}]\`\n\n${facts?.description} (*${originName(facts?.origin)}*)\n${section(table, title)}`;
}

function leafTable(rows: readonly Row[], path: string): string {
  if (rows.length === 0) return '';
  const lines = rows.map(({ name, schema }) => {
    const facts = keyFacts.get(schema);
    if (facts === undefined) throw new Error(`the schema says nothing about ${name}`);
    const meaning = needsRestart(`${path}.${name}`) ? `${facts.description} A change needs a restart.` : facts.description;
    const cells = [`\`${name}\``, facts.allowed, defaultOf(schema, facts.otherwise), meaning, originName(facts.origin)];
    return `| ${cells.join(' | ')} |`;
  });
  return `\n| key | allowed | default | meaning | from |\n|---|---|---|---|---|\n${lines.join('\n')}\n`;
}

function defaultOf(schema: z.core.$ZodType, otherwise: string | undefined): string {
  if (otherwise !== undefined) return otherwise;
  return schema instanceof z.ZodDefault ? `\`${JSON.stringify(schema.def.defaultValue)}\`` : 'required';
}

function originName(origin: string | undefined): string {
  return origin === 'convey' ? 'Convey' : 'lb4';
}

function isTable(schema: z.core.$ZodType): boolean {
  return core(schema) instanceof z.ZodObject || core(schema) instanceof z.ZodRecord;
}

function shapeOf(schema: z.core.$ZodType): Record<string, z.core.$ZodType> {
  const table = core(schema);
  return table instanceof z.ZodObject ? table.shape : {};
}
