import { readFileSync } from 'node:fs';
import { release } from 'node:os';
import { gunzipSync } from 'node:zlib';
import type { Config } from '../config/model.ts';
import { MODES, type Mode, rewritesAnswers } from '../config/modes.ts';
import { read } from '../rules/read.ts';
import { type Finding, ok, warn } from './finding.ts';

/** Those that cost a trap or a port access for every look at the clock. */
const SLOW = new Set(['hpet', 'acpi_pm', 'pit', 'jiffies', 'refined-jiffies', 'xen']);
const FAST = ['tsc', 'kvm-clock', 'hyperv_clocksource_tsc_page', 'arch_sys_counter'];
const CLOCKS = '/sys/devices/system/clocksource/clocksource0';

export function clockSource(): Finding {
  return judgeClock(read(`${CLOCKS}/current_clocksource`), read(`${CLOCKS}/available_clocksource`) ?? '');
}

/** @param available names, with spaces between them */
export function judgeClock(current: string | undefined, available: string): Finding {
  if (current === undefined) return warn('clock source', 'unknown: /sys is not mounted', 'mount -t sysfs sysfs /sys');
  if (!SLOW.has(current)) return ok('clock source', current);
  const better = FAST.find((name) => available.split(' ').includes(name));
  const mend = better === undefined ? 'boot with tsc=reliable' : `echo ${better} >${CLOCKS}/current_clocksource`;
  return warn('clock source', `${current} is slow: every look at the clock costs a microsecond or more`, mend);
}

/** Linux that gives packet sockets super-packets of UDP (860b7f27b8f7: "linux/virtio_net.h: Support USO offload in vnet header"). */
const SINCE = [6, 2] as const;

/** Nothing to say of a file without UDP, or of an lb4 that reads frames by libpcap, which gets them in pieces. */
export function udpSegments({ backends, passthrough }: Config, kernel = release()): Finding[] {
  if (passthrough.io === 'pcap' || !backends.some(({ protocol }) => protocol.name === 'udp')) return [];
  const [, major, minor] = (/^(\d+)\.(\d+)/.exec(kernel) ?? []).map(Number);
  if (major === undefined || minor === undefined) return [];
  if (major > SINCE[0] || (major === SINCE[0] && minor >= SINCE[1])) return [ok('UDP segments', `kernel ${kernel} hands them up whole`)];
  const lost = 'what containers and machines on this host send with UDP_SEGMENT (QUIC, WireGuard) never reaches lb4';
  const message = `kernel ${kernel} hands no super-packets of UDP to packet sockets (Linux ${SINCE.join('.')} does): ${lost}`;
  return [warn('UDP segments', message, 'on whoever sends them: ethtool -K DEVICE tx-udp-segmentation off')];
}

/** For DSR where servers rewrite: their `tc` dialect needs it, and servers often run the balancer's kernel. @param config undefined: there may be such servers */
export function actNat(mode: Mode, config: Config | undefined): Finding[] {
  if (config?.backends.some((backend) => rewritesAnswers(mode, backend)) ?? MODES[mode].directions === 1) return [lookForActNat()];
  return [];
}

function lookForActNat(): Finding {
  const has = hasActNat();
  if (has === undefined)
    return warn('act_nat', `nothing tells whether kernel ${release()} has it`, 'modprobe act_nat; ls /sys/module/act_nat');
  if (has) return ok('act_nat', `kernel ${release()} has it: servers that run this kernel may take the tc dialect`);
  return warn(
    'act_nat',
    `kernel ${release()} does not have it: servers that run this kernel take the nft dialect`,
    'lb4 rules --dsr --for SERVER_IP --dialect nft --config=FILE',
  );
}

function hasActNat(): boolean | undefined {
  if (/^act_nat /m.test(read('/proc/modules') ?? '')) return true;
  const modules = `/lib/modules/${release()}`;
  if (/\/act_nat\.ko/.test(`${read(`${modules}/modules.dep`)}${read(`${modules}/modules.builtin`)}`)) return true;
  const config = kernelConfig() ?? read(`/boot/config-${release()}`);
  // "m" without a file in /lib/modules is no act_nat.
  return config === undefined ? undefined : /^CONFIG_NET_ACT_NAT=y$/m.test(config);
}

function kernelConfig(): string | undefined {
  try {
    return gunzipSync(readFileSync('/proc/config.gz')).toString();
  } catch {
    return undefined;
  }
}
