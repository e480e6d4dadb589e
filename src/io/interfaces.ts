/** The interfaces of this network namespace, asked once. */
import { type Interface, native } from './native.ts';

/** @throws the system's error */
export function interfacesNow(): Interface[] {
  const routes = new (native().RouteSocket)();
  try {
    return routes.interfaces();
  } finally {
    routes.close();
  }
}
