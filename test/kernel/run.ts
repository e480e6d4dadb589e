/**
 * A stock Debian kernel under QEMU, in software (no /dev/kvm needed): boots, runs one script of this checkout, gives back what
 * it printed. `node dist/test/kernel/run.js test/kernel/guest/act-nat.sh` does so by hand.
 */
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative, resolve } from 'node:path';
import { ROOT } from '../lab/lab.ts';

export interface GuestResult {
  /** The script's exit status; undefined when the guest died or took too long. */
  readonly code: number | undefined;
  /** Standard output and standard error of the script, or what the kernel said last when the guest died. */
  readonly output: string;
  /** From QEMU's start to the script's end. */
  readonly seconds: number;
}

/** image.sh found something missing that this host cannot get. */
const LACKING = 75;
const LAST_LINE = /^lb4-guest: exit (\d+)$/m;

/** A kernel and an initramfs with this checkout as it was built, in a temporary directory. */
export class Image {
  readonly #directory: string;
  /** Undefined: ready. Else why this host cannot have it, in one line. */
  readonly lacking: string | undefined;

  /** Downloads the kernel when it is not cached; a few seconds otherwise. Throws when something fails that should not. */
  constructor() {
    this.#directory = mkdtempSync(join(tmpdir(), `lb4-${process.pid}-kernel-`)); // a name that `sweep` knows
    const { status, stdout, stderr } = spawnSync('sh', [join(ROOT, 'test/kernel/image.sh'), this.#directory], { encoding: 'utf8' });
    if (status !== 0) this[Symbol.dispose]();
    if (status === LACKING) this.lacking = stdout.trim().split('\n').at(-1);
    else if (status !== 0) throw new Error(`test/kernel/image.sh failed (${status}):\n${stdout}${stderr}`);
  }

  /** Boots it and runs a file of this checkout, under test/kernel/guest: a .sh, or a .ts that is built into dist/. */
  async run(file: string, patience = 600_000): Promise<GuestResult> {
    const script = relative(ROOT, file);
    const started = performance.now();
    const log = join(this.#directory, `${script.replaceAll('/', '-')}.log`);
    const guest = spawn(QEMU, [...MACHINE, ...this.#boot(script), '-serial', 'stdio', '-serial', `file:${log}`], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const timer = setTimeout(() => guest.kill('SIGKILL'), patience);
    const kill = () => guest.kill('SIGKILL');
    process.once('exit', kill);
    let text = '';
    for (const stream of [guest.stdout, guest.stderr]) {
      stream.setEncoding('utf8').on('data', (piece: string) => {
        text += piece.replaceAll('\r', '');
        if (LAST_LINE.test(text)) guest.kill('SIGKILL');
      });
    }
    await new Promise((resolve, reject) => guest.once('close', resolve).once('error', reject));
    clearTimeout(timer);
    process.off('exit', kill);
    const seconds = (performance.now() - started) / 1000;
    const end = LAST_LINE.exec(text);
    if (end !== null) return { code: Number(end[1]), output: text.slice(0, end.index), seconds };
    return { code: undefined, output: `${text}\nthe kernel's last words:\n${lastLines(log)}`, seconds };
  }

  #boot(script: string): string[] {
    const path = script.endsWith('.ts') ? `dist/${script.slice(0, -3)}.js` : script;
    const [kernel, initramfs] = [join(this.#directory, 'vmlinuz'), join(this.#directory, 'initramfs')];
    return ['-kernel', kernel, '-initrd', initramfs, '-append', `console=ttyS1 panic=-1 lb4.script=${path}`];
  }

  [Symbol.dispose](): void {
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

/** Network cards on two wires, two a wire, for who loads their driver. */
const CARDS = [0, 1, 2, 3].map((card) => `-netdev hubport,id=n${card},hubid=${card >> 1} -device virtio-net-pci,netdev=n${card},romfile=`);
/** No disk, no way out, no screen: two processors, memory for the unpacked tree, two serial ports. */
const MACHINE = ['-accel tcg,thread=multi -cpu max -smp 2 -m 1536 -nodefaults -no-user-config -no-reboot -display none', ...CARDS]
  .join(' ')
  .split(' ');
const QEMU = 'qemu-system-x86_64';

function lastLines(file: string): string {
  try {
    return readFileSync(file, 'utf8').split('\n').slice(-30).join('\n');
  } catch (error) {
    return String(error);
  }
}

if (process.argv[1] === import.meta.filename) {
  using image = new Image();
  if (image.lacking !== undefined) throw new Error(image.lacking);
  const { code, output, seconds } = await image.run(resolve(process.argv[2] ?? ''));
  process.stdout.write(`${output}exit ${code} after ${seconds.toFixed(1)} s\n`);
  process.exitCode = code ?? 1;
}
