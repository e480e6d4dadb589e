/** What syslog wants in front of a line. Facility daemon, severity info. */
import { hostname } from 'node:os';

const PRIORITY = 3 * 8 + 6;
const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];

/** RFC 3164 section 4.1, without the host: as syslog(3) writes to /dev/log, in local time. */
export function localHeader(at: number): string {
  const time = new Date(at);
  const two = (value: number) => String(value).padStart(2, '0');
  const clock = [time.getHours(), time.getMinutes(), time.getSeconds()].map(two).join(':');
  return `<${PRIORITY}>${MONTHS[time.getMonth()]} ${String(time.getDate()).padStart(2)} ${clock} lb4[${process.pid}]: `;
}

/** RFC 5424 section 6.2: for another host. */
export function remoteHeader(at: number): string {
  const host = hostname().replaceAll(/[^!-~]/g, '') || '-';
  return `<${PRIORITY}>1 ${new Date(at).toISOString()} ${host.slice(0, 255)} lb4 ${process.pid} connection - `;
}
