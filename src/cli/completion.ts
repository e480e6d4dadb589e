/** `lb4 completion SHELL`: what bash, zsh or fish need to complete lb4's commands and options, from the commands themselves. */
import { Argument, Command } from 'commander';
import { type Described, type DescribedArgument, described } from './described.ts';
import { withExamples } from './manual.ts';

/** By the name of the shell. */
const SCRIPTS: Readonly<Record<string, (root: Described) => string>> = { bash, zsh, fish };

/** The command, for the program to add. */
export function completionCommand(): Command {
  const command = new Command('completion')
    .description('print the completion script of a shell')
    .addArgument(new Argument('<shell>', 'which one').choices(Object.keys(SCRIPTS)))
    .action((shell: string) => {
      process.stdout.write(completionScript(rootOf(command), shell));
    });
  return withExamples(command, {
    'lb4 completion bash >/etc/bash_completion.d/lb4': 'for all users',
    'lb4 completion zsh >/usr/local/share/zsh/site-functions/_lb4': 'the same',
    'lb4 completion fish >/etc/fish/completions/lb4.fish': 'the same',
  });
}

export function completionScript(program: Command, shell: string): string {
  return SCRIPTS[shell]?.(described(program)) ?? '';
}

/** Of a command in it. */
export function rootOf(command: Command): Command {
  return command.parent === null ? command : rootOf(command.parent);
}

/** All of the tree, parents first. */
function all(node: Described): Described[] {
  return [node, ...node.commands.flatMap(all)];
}

/** Prints the servers of a running lb4, or nothing. */
const NAMES = 'lb4 list --names 2>/dev/null';

function bash(root: Described): string {
  const nodes = all(root);
  const steps = nodes.flatMap(({ path, commands }) => commands.map(({ name }) => `      '${path} ${name}') path='${path} ${name}' ;;`));
  const valued = [
    ...new Set(nodes.flatMap(({ options }) => options.filter(({ takes }) => takes !== undefined).flatMap(({ names }) => names))),
  ];
  const filed = valued.filter((name) =>
    nodes.some(({ options }) => options.some((one) => one.takes === 'file' && one.names.includes(name))),
  );
  const words = nodes.map(({ path, options, commands, args }) => {
    const choices = args.flatMap((argument) => argument.choices ?? []);
    const list = [...options.flatMap(({ names }) => names), ...commands.map(({ name }) => name), ...choices];
    const yes = (is: (argument: DescribedArgument) => boolean) => (args.some(is) ? 'yes' : '');
    return `    '${path}') words='${list.join(' ')}' files='${yes((one) => one.isFile)}' servers='${yes((one) => one.isServer)}' ;;`;
  });
  return `# bash completion for lb4 (lb4 completion bash)
_lb4() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD-1]} path=lb4 words='' files='' servers='' i
  # --config=FILE is three words for bash
  if [ "$cur" = = ]; then cur=''; elif [ "$prev" = = ]; then prev=\${COMP_WORDS[COMP_CWORD-2]}; fi
  for ((i = 1; i < COMP_CWORD; i++)); do
    case "$path \${COMP_WORDS[i]}" in
${steps.join('\n')}
    esac
  done
  case $prev in
    ${filed.join(' | ')}) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
    ${valued.filter((name) => !filed.includes(name)).join(' | ')}) COMPREPLY=(); return ;;
  esac
  case $path in
${words.join('\n')}
  esac
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur" || :; if [ -n "$files" ]; then compgen -f -- "$cur"; fi
    if [ -n "$servers" ]; then compgen -W "$(${NAMES})" -- "$cur" || :; fi)
}
complete -o filenames -F _lb4 lb4 lb4-service
`;
}

function zsh(root: Described): string {
  return `#compdef lb4 lb4-service
# zsh completion for lb4 (lb4 completion zsh)
${all(root).map(zshFunction).join('\n')}
_lb4 "$@"
`;
}

function zshFunction({ path, options, commands, args }: Described): string {
  const name = `_${path.replaceAll(' ', '_')}`;
  const specs = options.map(({ names, takes, meaning }) => {
    const value = takes === undefined ? '' : takes === 'file' ? ':file:_files' : `:${takes}: `;
    return names.length > 1
      ? `{${names.join(',')}}${quoted(`[${zshText(meaning)}]${value}`)}`
      : quoted(`${names[0]}${takes === undefined ? '' : '='}[${zshText(meaning)}]${value}`);
  });
  args.forEach(({ name: word, isFile, isServer, choices = [] }, i) => {
    const values = isServer ? `{compadd -- \${(f)"$(${NAMES})"}}` : `(${choices.join(' ')})`;
    specs.push(quoted(`${i + 1}:${word}:${isFile ? '_files' : values}`));
  });
  if (commands.length === 0) return `${name}() {\n  _arguments ${specs.join(' \\\n    ')}\n}`;
  const list = commands.map((one) => quoted(`${one.name}:${one.meaning.replaceAll(':', '\\:')}`)).join(' ');
  const cases = commands.map((one) => `      ${one.name}) ${name}_${one.name} ;;`).join('\n');
  return `${name}() {
  local curcontext="$curcontext" state line
  typeset -A opt_args
  _arguments -C ${[...specs, "'1: :->command'", "'*:: :->rest'"].join(' \\\n    ')}
  case $state in
    command) local -a commands=(${list}); _describe command commands ;;
    rest) case $line[1] in
${cases}
    esac ;;
  esac
}`;
}

/** Brackets end a description. */
function zshText(text: string): string {
  return text.replaceAll(/[[\]]/g, (bracket) => `\\${bracket}`);
}

function fish(root: Described): string {
  return `# fish completion for lb4 (lb4 completion fish)\ncomplete -c lb4 -f\n${all(root).flatMap(fishLines).join('\n')}\n`;
}

function fishLines({ path, options, commands, args }: Described): string[] {
  const [, ...words] = path.split(' ');
  const names = commands.map(({ name }) => name).join(' ');
  const here = [
    ...words.map((word) => `__fish_seen_subcommand_from ${word}`),
    ...(names === '' ? [] : [`not __fish_seen_subcommand_from ${names}`]),
  ].join('; and ');
  const line = (rest: string) => `complete -c lb4 -n ${quoted(here)} ${rest}`;
  return [
    ...commands.map(({ name, meaning }) => line(`-a ${name} -d ${quoted(meaning)}`)),
    ...options.map(({ names: spelled, takes, meaning }) => {
      const flags = spelled.map((one) => (one.startsWith('--') ? `-l ${one.slice(2)}` : `-s ${one.slice(1)}`)).join(' ');
      return line(`${flags}${takes === undefined ? '' : takes === 'file' ? ' -r -F' : ' -x'} -d ${quoted(meaning)}`);
    }),
    ...(args.some(({ isFile }) => isFile) ? [line('-F')] : []),
    ...(args.some(({ isServer }) => isServer) ? [line(`-a '(${NAMES})'`)] : []),
    ...args.flatMap(({ choices = [] }) => choices).map((choice) => line(`-a ${choice}`)),
  ];
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
