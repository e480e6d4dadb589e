import { native, type Route } from './native.ts';

/** What the kernel does with a packet to `destination` from `source` (native order; 0: whichever it takes), asked once. Throws as RouteSocket.route does. */
export function routeOnce(destination: number, source = 0): Route {
  const socket = new (native().RouteSocket)();
  try {
    return socket.route(destination, source, 0, 0);
  } finally {
    socket.close();
  }
}
